"""Laws that every system and every task must keep, tested over the registries."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.checkpoints import load_model, publish
from models.core.jobs import JOBS
from models.core.loop import Kernel, Loop, Rows, RowsError, Task, run
from models.core.output import Output
from models.serving import fast_networks
from models.systems.registry import VARIANTS, system_of
from service.contract.jobs import TASKS
from tests.models.zoo import FIELDS, TINY, ZOO, fresh_model, job, tiny_model
from workers.engine.engine import Engine
from workers.engine.sizes import Sizes, probe

CASES = [(name, task) for name, tiny in ZOO.items() for task in tiny.card()["tasks"]]
MAX_ROWS = 8
WITHOUT_CHANCE = {"embed"}
"""Tasks whose output is a function of the picture alone."""
TOLERANCE = {"atol": 1e-5, "rtol": 0.0}


def most(name: str, task: str) -> int:
    """The most images of this task."""
    limit: int = ZOO[name].card()["tasks"][task]["limits"]["max_n"]
    return limit


MANY = [(name, task) for name, task in CASES if most(name, task) > 1]
APART = [(name, task) for name, task in MANY if not TASKS[task].sequence]
"""Without sequences, whose frames share their seed and differ in their place."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(max_rows=MAX_ROWS, threads=2)
    engine.start()
    yield engine
    engine.stop()


@cache
def sizes_of(name: str) -> Mapping[Kernel, Sizes]:
    """The batch sizes of each kernel that agree to the bit."""
    return probe(tiny_model(name).kernels.examples(), MAX_ROWS)


def make(name: str, task: str, **changes: Any) -> Output:
    return run(tiny_model(name).start(task, job(name, task, **changes)))


def tensors(output: Output) -> dict[str, Tensor]:
    known = {"images": output.images, "energy": output.energy}
    return {**output.extras, **{name: value for name, value in known.items() if value is not None}}


def same(a: Output, b: Output) -> bool:
    mine, theirs = tensors(a), tensors(b)
    return a.numbers == b.numbers and all(torch.equal(v, theirs[k]) for k, v in mine.items())


def assert_close(a: Output, b: Output) -> None:
    if a.images is not None:
        torch.testing.assert_close(a.images, b.images, **TOLERANCE)
    if a.energy is not None:
        torch.testing.assert_close(a.energy, b.energy, atol=1e-4, rtol=1e-5)
    mine, theirs = (list(_leaves(dict(output.numbers))) for output in (a, b))
    assert [v for v in mine if isinstance(v, str)] == [v for v in theirs if isinstance(v, str)]
    floats = [[v for v in leaves if not isinstance(v, str)] for leaves in (mine, theirs)]
    assert floats[0] == pytest.approx(floats[1], abs=1e-3, rel=1e-5)


def _leaves(value: Any) -> Iterator[str | float]:
    """The strings and numbers in what JSON can hold."""
    if isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _leaves(part)
    else:
        yield value


def test_the_zoo_covers_every_system_and_task() -> None:
    assert {tiny.variant for tiny in ZOO.values()} == VARIANTS.keys()
    assert {system_of(variant) for variant in VARIANTS} == TINY.keys()
    assert {task for _, task in CASES} == FIELDS.keys() == TASKS.keys() == JOBS.keys()


@pytest.mark.parametrize("name", ZOO)
def test_a_model_does_what_its_card_says(name: str) -> None:
    assert tiny_model(name).tasks.keys() == ZOO[name].card()["tasks"].keys()


@pytest.mark.parametrize(("name", "task"), CASES)
def test_same_seed_same_output_and_another_seed_another(name: str, task: str) -> None:
    first = make(name, task)
    assert same(first, make(name, task))
    assert same(first, make(name, task, seed=6)) == (task in WITHOUT_CHANCE)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_an_output_has_one_entry_a_row(name: str, task: str) -> None:
    """As many rows as the contract counts for the request, whatever the output consists of."""
    asked = job(name, task, n=min(3, most(name, task)))
    output = run(tiny_model(name).start(task, asked))
    n = TASKS[task].model_construct(**vars(asked)).rows
    assert output.energy is None or output.energy.shape == (n,)
    assert len(output.seeds) == n
    assert len(set(output.seeds)) == (1 if output.animated else asked.n)
    for values in output.numbers.values():
        assert len(values) == n
    json.dumps(dict(output.numbers), allow_nan=False)
    if output.images is None:
        assert output.numbers
    else:
        image = ZOO[name].card()["image"]
        assert output.images.shape == (n, image["channels"], image["height"], image["width"])
        assert output.images.abs().max() <= 1


@pytest.mark.parametrize(("name", "task"), APART)
def test_the_seed_of_an_output_makes_it_alone(name: str, task: str) -> None:
    several = make(name, task, n=3)
    for seed in set(several.seeds):
        own = [k for k, other in enumerate(several.seeds) if other == seed]
        alone = make(name, task, n=1, seed=seed)
        torch.testing.assert_close(alone.images, several.images[own], **TOLERANCE)
        if several.energy is not None:
            torch.testing.assert_close(alone.energy, several.energy[own], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("name", "task"), MANY)
def test_more_images_of_one_seed_begin_with_the_same_ones(name: str, task: str) -> None:
    """Frames of a sequence keep their ends instead."""
    two, five = (make(name, task, n=n) for n in (2, 5))
    assert two.images is not None
    assert five.images is not None
    kept = [0, 4] if five.animated else [0, 1]
    blocks = five.images.unflatten(0, (-1, 5))[:, kept].flatten(0, 1)
    torch.testing.assert_close(blocks, two.images, **TOLERANCE)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_alone_and_in_company_are_the_same_bits(name: str, task: str, engine: Engine) -> None:
    """Nine jobs of different sizes, steps, step sizes and noises share batches; each equals itself alone."""
    model = tiny_model(name)
    sizes = sizes_of(name)
    engine.pad_to(sizes)
    jobs = [
        job(
            name,
            task,
            n=min(1 + k % 4, most(name, task)),
            seed=k,
            steps=1 + k % 4,
            step_size=1 - k / 50,
            noise=0.01 * (k % 3),
        )
        for k in range(9)
    ]
    tickets = [engine.submit(model.start(task, job)) for job in jobs]
    together = [ticket.result() for ticket in tickets]
    assert engine.rows_advanced > 2 * engine.steps  # they did share batches
    for asked, crowd in zip(jobs, together, strict=True):
        by_itself = engine.submit(model.start(task, asked)).result()
        assert_close(crowd, run(model.start(task, asked)))
        assert_close(crowd, by_itself)
        if all(sizes.values()):
            assert same(crowd, by_itself)


@pytest.mark.parametrize("name", ZOO)
def test_every_kernel_of_a_task_has_an_example(name: str) -> None:
    """The engine probes batch sizes with the examples, so a kernel without one would never be padded.

    Rows may carry more than the example: a mask, a map that gathers. Such state goes pixel by pixel.
    """
    model = tiny_model(name)
    known = {kernel: _form(rows) for kernel, rows in model.kernels.examples()}
    used = set()
    for task in model.tasks:
        for asked in _variants(name, task):
            for loop in _loops(model.start(task, asked)):
                assert known[loop.kernel] <= _form(loop.rows), f"{task}: {loop.name}"
                used.add(loop.kernel)
    assert used == known.keys()


def _variants(name: str, task: str) -> Iterator[Any]:
    """Jobs that together use all kernels of a task: with each label, with a film where the task gives one, and with
    each choice of an option.
    """
    card, fields = ZOO[name].card(), {field.name for field in dataclasses.fields(JOBS[task])}
    labels = [{"label": {label: 1.0}} for label in card["classes"] or () if "label" in fields]
    filmed = {"animate": True, "steps": card["tasks"][task]["limits"]["trained_steps"]}  # a film's length is theirs
    for way in ({}, filmed) if "animate" in fields else ({},):
        for label in labels or [{}]:
            yield job(name, task, **way, **label)
    for option, declared in card["tasks"][task].get("options", {}).items():
        for choice in declared.get("choices", ()):
            yield job(name, task, options={option: choice})


def _form(rows: Rows) -> set[tuple[str, torch.Size, torch.dtype]]:
    return {(k, v.shape[1:], v.dtype) for k, v in rows.items()}


def _loops(task: Task[Output]) -> Iterator[Loop]:
    rows: Any = None
    while True:
        try:
            loop = task.send(rows)
        except StopIteration:
            return
        yield loop
        rows = run(_just(dataclasses.replace(loop, steps=min(loop.steps, 1))))  # further ones have the same form


def _just(loop: Loop) -> Task[Rows]:
    rows = yield loop
    return rows


@pytest.mark.parametrize("name", ZOO)
def test_a_loaded_model_is_frozen(name: str) -> None:
    model = fresh_model(name)
    parts = list(_parts(model.kernels, set()))
    tensors = [part for part in parts if isinstance(part, Tensor)]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) >= model.kernels.nbytes > 0
    assert not any(tensor.requires_grad for tensor in tensors)
    assert not any(module.training for module in modules)


def _parts(thing: Any, seen: set[int]) -> Iterator[Any]:
    """Every tensor and module that a model holds."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor | nn.Module):
        yield thing
    inner: Iterable[Any] = ()
    if isinstance(thing, nn.Module):
        inner = [*thing.modules(), *thing.parameters(), *thing.buffers()]
    elif isinstance(thing, Mapping):
        inner = thing.values()
    elif isinstance(thing, list | tuple):
        inner = thing
    elif type(thing).__module__.startswith(("models.", "tests.")):
        inner = vars(thing).values()
    for part in inner:
        yield from _parts(part, seen)


@pytest.mark.parametrize("name", ZOO)
def test_a_checkpoint_makes_the_same_output(name: str, tmp_path: Path) -> None:
    tiny = ZOO[name]
    folder = publish(tmp_path, {"name": "m", **tiny.card()}, tiny.weights())
    with fast_networks(False):  # to trace them once more takes seconds
        loaded, model = load_model(folder, torch.device("cpu")), fresh_model(name)
    for task in loaded.tasks:
        assert same(run(loaded.start(task, job(name, task))), run(model.start(task, job(name, task))))


CHAINS = [(name, task) for name, task in CASES if len(set(ZOO[name].card()["tasks"][task]["limits"]["step_size"])) > 1]
"""Tasks whose step size may be chosen: the others run no chain."""


@pytest.mark.parametrize(("name", "task"), CHAINS)
def test_a_chain_that_diverges_says_so(name: str, task: str) -> None:
    with pytest.raises(RowsError, match="lower step_size"):
        make(name, task, step_size=1e30, steps=20)
