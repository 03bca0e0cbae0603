"""Laws that every system and every task must keep, tested over the registries."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from models.checkpoints import load_model, publish
from models.loop import RowsError, run
from models.systems.base import Output
from models.systems.registry import SYSTEMS
from service.jobs import TASKS
from tests.models.zoo import CLASSES, JOBS, TINY, images, tiny_model
from workers.engine import Engine
from workers.exact import probe

CASES = [(system, task) for system in SYSTEMS for task in tiny_model(system).tasks]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(max_rows=8)
    engine.start()
    yield engine
    engine.stop()


def same(a: Output, b: Output) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.energy, b.energy)


def test_the_zoo_covers_every_system_and_task() -> None:
    assert TINY.keys() == SYSTEMS.keys()
    assert JOBS.keys() == TASKS.keys()


@pytest.mark.parametrize(("system", "task"), CASES)
def test_same_seed_same_images_and_another_seed_others(system: str, task: str) -> None:
    model, job = tiny_model(system), JOBS[task]()
    first, again = run(model.tasks[task](job)), run(tiny_model(system).tasks[task](job))
    assert same(first, again)
    other = run(model.tasks[task](dataclasses.replace(job, seed=job.seed + 1)))
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize(("system", "task"), CASES)
def test_images_are_images_and_energies_are_one_a_row(system: str, task: str) -> None:
    job = JOBS[task](n=3)
    output = run(tiny_model(system).tasks[task](job))
    assert output.images.shape[0] == output.energy.shape[0] == len(output.seeds) == 3
    assert output.images.abs().max() <= 1
    assert len(set(output.seeds)) == 3


@pytest.mark.parametrize(("system", "task"), CASES)
def test_more_images_of_one_seed_begin_with_the_same_ones(system: str, task: str) -> None:
    model = tiny_model(system)
    two, five = (run(model.tasks[task](JOBS[task](n=n))) for n in (2, 5))
    torch.testing.assert_close(five.images[:2], two.images, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("system", "task"), CASES)
def test_alone_and_in_company_are_the_same_bits(system: str, task: str, engine: Engine) -> None:
    """Fifteen jobs of different sizes, steps, step sizes and noises share batches; each equals itself alone."""
    model = tiny_model(system)
    sizes = probe(model.examples(), engine.max_rows)
    engine.pad_to(sizes)
    jobs = [
        JOBS[task](n=1 + k % 4, seed=k, steps=1 + k % 7, step_size=1 - k / 50, noise=0.01 * (k % 3)) for k in range(15)
    ]
    tickets = [engine.submit(model.tasks[task](job)) for job in jobs]
    together = [ticket.result() for ticket in tickets]
    assert engine.rows_advanced > 2 * engine.steps  # they did share batches
    for job, crowd in zip(jobs, together, strict=True):
        alone = run(model.tasks[task](job))
        torch.testing.assert_close(crowd.images, alone.images, atol=1e-5, rtol=0)
        by_itself = engine.submit(model.tasks[task](job)).result()
        torch.testing.assert_close(crowd.images, by_itself.images, atol=1e-5, rtol=0)
        if all(sizes.values()):
            assert same(crowd, by_itself)


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_kernel_of_a_task_has_an_example(system: str) -> None:
    """The engine probes batch sizes with the examples, so a kernel without one would never be padded."""
    model = tiny_model(system)
    known = [kernel for kernel, _ in model.examples()]
    for task, make in model.tasks.items():
        generator, rows = make(JOBS[task]()), None
        try:
            while True:
                loop = generator.send(rows)  # type: ignore[arg-type]
                assert loop.kernel in known
                rows = run(_just(loop))
        except StopIteration:
            pass


def _just(loop):  # type: ignore[no-untyped-def]
    rows = yield loop
    return rows


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_loaded_model_is_frozen(system: str) -> None:
    model = tiny_model(system)
    networks = [value for value in vars(model).values() if isinstance(value, nn.Module)]
    assert networks
    for network in networks:
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert not any(module.training for module in network.modules())


@pytest.mark.parametrize(("system", "task"), CASES)
def test_a_checkpoint_makes_the_same_images(system: str, task: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from models.configuration import configure

    data = images()
    config = configure(system, "small", data, TINY[system])
    entry = SYSTEMS[system]
    tensors = entry.trainer(config, data, 3, torch.device("cpu")).export()
    folder = publish(tmp_path, {"name": "m", "system": system, **entry.card(config, CLASSES)}, tensors)
    loaded = load_model(folder, torch.device("cpu"))
    assert same(run(loaded.tasks[task](JOBS[task]())), run(tiny_model(system).tasks[task](JOBS[task]())))


@pytest.mark.parametrize(("system", "task"), CASES)
def test_a_chain_that_diverges_says_so(system: str, task: str) -> None:
    job = JOBS[task](step_size=1e30, steps=20)
    with pytest.raises(RowsError, match="lower step_size"):
        run(tiny_model(system).tasks[task](job))
