"""A pair of a flow and an energy, served and trained: ``python -m benchmarks.pairs``.

Served: jobs that generate and jobs that search for completions go through the engine of the inference worker together,
all at once, and are held against the ideal: each kind by itself in batches that are full from the first step to the
last. Trained: an iteration in which both learn is held against the sum of its parts, each measured by itself: the
proposals, the steps of the chain, both gradients, both updates. Repetitions are interleaved; ratios are medians.

It also tells what batches that images share with searches would be worth. Rows of one batch have one form of state, so
images would carry what a search notes. The forward half of searches runs beside images with batches apart, as they
are, and shared, each image with the state of a search.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch

from benchmarks import workload
from benchmarks.loops import on_threads, synchronize
from benchmarks.place import prepare
from benchmarks.report import Claim, show_claims, show_table, write_json
from benchmarks.serving import serving
from models.core.loop import Kernel, Loop, Rows, Task, run_together
from models.core.model import LoadedModel
from models.data.images import ImageData
from models.evaluation.jobs import defaults_for, job_of
from models.samplers.adjoint import begin
from models.systems.coopflow.config import Config
from models.systems.coopflow.model import CoopFlow
from models.systems.coopflow.pair import Phase
from models.systems.coopflow.presets import PRESETS
from models.systems.coopflow.training import CoopFlowTrainer
from workers.engine.engine import Engine


def jobs_of(model: LoadedModel, task: str, n: int, steps: int, iterations: int) -> list[Any]:
    """n jobs of one image each; searches take so many iterations."""
    defaults, image = defaults_for(model, task), model.card["image"]
    size, options = image["height"], defaults["options"]
    fields: dict[str, Any] = {"steps": steps, "n": 1}
    if task == "inpaint":
        mask = torch.zeros(1, size, size)
        mask[:, : size // 2] = 1
        picture = torch.linspace(-0.9, 0.9, image["channels"] * size * size).view(-1, size, size)
        fields |= {"image": picture, "mask": mask, "options": {**options, "iterations": iterations}}
    return [job_of(task, defaults, **fields, seed=k) for k in range(n)]


def ideal(model: LoadedModel, engine: Engine, work: dict[str, list[Any]]) -> None:
    """Each kind in full batches."""
    for task, jobs in work.items():
        for k in range(0, len(jobs), engine.max_rows):
            run_together([model.start(task, job) for job in jobs[k : k + engine.max_rows]], device=engine.device)


def together(model: LoadedModel, engine: Engine, work: dict[str, list[Any]]) -> None:
    """All through the engine, the kinds in turn."""
    mixed = [(task, job) for pair in zip(*work.values(), strict=True) for task, job in zip(work, pair, strict=True)]
    for ticket in [engine.submit(model.start(task, job)) for task, job in mixed]:
        ticket.result()


def _advanced(kernel: Kernel, rows: Rows, steps: int) -> Task[Rows]:
    return (yield Loop(kernel, rows, steps, list(range(len(rows["y"])))))


def halves(kernels: CoopFlow, engine: Engine, n: int, steps: int) -> dict[str, Callable[[], object]]:
    """n images and the forward half of n searches, so many steps of each through the engine: in two ways."""
    config, device = kernels.config, kernels.device
    shape = n, config.channels, config.size, config.size
    y = torch.linspace(-0.9, 0.9, math.prod(shape), device=device).view(shape)
    room = {"steps": steps, "iterations": config.chain.descents, "room": config.chain.steps}
    image = {**kernels.bounded(n, 1.0, 0.0), "y": y}
    search, carrying = (
        begin({**rows, "y": y}, y, torch.ones(1, device=device), rate=0.05, decay=1.0, **room)
        for rows in (kernels.free(n, 1.0), image)
    )

    def advanced(kernel: Kernel, rows: Rows) -> None:
        for ticket in [engine.submit(_advanced(*one, steps)) for one in ((kernel, rows), (kernels.forward, search))]:
            ticket.result()

    return {
        "apart": lambda: advanced(kernels.refine, image),
        "shared": lambda: advanced(kernels.forward, carrying),
    }


def timed(ways: Mapping[str, Callable[[], object]], repetitions: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each way, one entry a repetition; every repetition begins with another way."""
    names, seconds = list(ways), {name: [0.0] * repetitions for name in ways}
    for repetition in range(repetitions):
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            started = time.perf_counter()
            ways[name]()
            synchronize(device)
            seconds[name][repetition] = time.perf_counter() - started
    return seconds


def parts_of(trainer: CoopFlowTrainer) -> dict[str, Callable[[], object]]:
    """A whole iteration of a training in which both learn, and its parts by themselves."""
    given = trainer.batches.given(trainer.config.training.batch_size, 1, 0)
    real = trainer.batches.observed(given)
    _, made, _ = trainer.chain(real)
    noise = trainer.batches.dequantisation(given)
    found: dict[str, Any] = {}

    def gradients() -> None:
        found.update(trainer.pair.energy_gradients(real, made) | trainer.pair.flow_gradients(made, noise))

    return {
        "chain": lambda: trainer.chain(real),
        "gradients": gradients,
        "updates": lambda: trainer.pair.update(found),
        "whole": lambda: trainer.step(1, 1.0, 0),
    }


def cooperating(config: Config, device: torch.device) -> CoopFlowTrainer:
    """A training on random images that has come to the phase in which both learn."""
    shape = 64, config.channels, config.image_size, config.image_size
    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    trainer = CoopFlowTrainer(config, ImageData(pixels, None, (), "random"), 0, device)
    while trainer.pair.phase < Phase.COOPERATION:
        trainer.leave_stage()
    return trainer


def ratio(seconds: Mapping[str, list[float]], above: Sequence[str], below: str) -> float:
    """The median of a sum of times over another one, each within its repetition."""
    sums = [sum(parts) for parts in zip(*(seconds[name] for name in above), strict=True)]
    return float(median(a / b for a, b in zip(sums, seconds[below], strict=True)))


@click.command(context_settings={"show_default": True})
@click.option("--model", "name", default="fashion-coopflow", help="A CoopFlow, by name or name@version.")
@click.option("--jobs", default=16, type=click.IntRange(1), help="Of each kind.")
@click.option("--steps", default=20, type=click.IntRange(1))
@click.option("--iterations", default=3, type=click.IntRange(1), help="Of each search.")
@click.option("--preset", default="small-gray32", type=click.Choice(list(PRESETS)), help="What is trained.")
@click.option("--repetitions", default=4, type=click.IntRange(1))
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch. [default: torch's own choice]")
@click.option("--device", help="auto, cpu, cuda or cuda:N. [default: COOPSERVE_DEVICE, or auto]")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(
    name: str,
    jobs: int,
    steps: int,
    iterations: int,
    preset: str,
    repetitions: int,
    threads: int | None,
    device: str | None,
    path: Path | None,
) -> None:
    """Hold a mixed load against the ideal loop, and a training iteration against its parts, in one process."""
    place = prepare(threads, device)
    ref = workload.find_model(name, place.settings).card.ref
    with serving(place.settings, ref, place.device) as (model, engine):
        work = {task: jobs_of(model, task, jobs, steps, iterations) for task in ("generate", "inpaint")}
        ways: dict[str, Callable[[], object]] = {
            "ideal": lambda: ideal(model, engine, work),
            "engine": lambda: together(model, engine, work),
        }
        with on_threads(place.threads):
            timed(ways, 1, place.device)  # the first steps are slower
            served = timed(ways, repetitions, place.device)
            assert isinstance(model.kernels, CoopFlow)
            sharing = halves(model.kernels, engine, jobs, steps)
            timed(sharing, 1, place.device)
            shared = timed(sharing, repetitions, place.device)
    with on_threads(place.threads):
        parts = parts_of(cooperating(PRESETS[preset], place.device))
        timed(parts, 1, place.device)
        trained = timed(parts, repetitions, place.device)
    tables = {
        f"{jobs} jobs of each kind on {ref}": served,
        f"{jobs} images beside {jobs} searches, {steps} steps": shared,
        f"an iteration of {preset}": trained,
    }
    for title, seconds in tables.items():
        show_table(title, ["", "seconds"], [[way, f"{median(s):.3f}"] for way, s in seconds.items()])
    claims = [
        Claim("speed: engine / ideal", ratio(served, ["ideal"], "engine"), 0.90),
        Claim("speed: parts / iteration", ratio(trained, ["chain", "gradients", "updates"], "whole"), 1 / 1.1),
    ]
    show_claims(claims)
    if path:
        figures = {"model": ref, "served": served, "halves": shared, "trained": trained}
        write_json(path, "pairs", place.facts, figures, claims)


if __name__ == "__main__":
    main()
