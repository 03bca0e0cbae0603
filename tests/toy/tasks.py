"""What the toy can do."""

from __future__ import annotations

from collections.abc import Sequence

from models.core.jobs import GenerateJob, ScoreJob
from models.core.loop import Loop, Rows, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import MAX_PIXEL, pictures, repeat
from models.systems.judging import judge
from tests.toy.model import Toy


def refined(model: Toy, rows: Rows, steps: int, seeds: Sequence[int]) -> Task[Rows]:
    """So many steps, in training as in serving."""
    rows = yield Loop(model.refine, rows, steps=steps, seeds=seeds, name="refine", preview=pictures, bound=MAX_PIXEL)
    return rows


def generate(model: Toy, job: GenerateJob) -> Task[Output]:
    seeds = row_seeds(job.seed, job.n)
    start = model.numbers(job.n, job.step_size, job.noise)
    rows = yield Loop(model.propose, start, steps=1, seeds=seeds, name="propose")
    if job.refine:
        rows = yield from refined(model, rows, job.steps, seeds)
    rows = yield Loop(model.evaluate, rows, steps=1, seeds=seeds, name="score")
    return Output(images=pictures(rows), energy=-rows["f"], seeds=seeds)


def score(model: Toy, job: ScoreJob) -> Task[Output]:
    rows = {**model.numbers(1, job.step_size, job.noise), "y": repeat(job.image, 1, model.device)}
    return (yield from judge(model, rows, job, model.calibration.get("pooled")))
