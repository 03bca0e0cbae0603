"""How well an image fits what a model has learned, in numbers: what the ``score`` tasks of all systems share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from models.core.jobs import ScoreJob
from models.core.loop import Kernel, Loop, Rows, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import MAX_PIXEL, MAX_STEPS, pictures
from models.systems.calibration import against


class Judge(Protocol):
    """What judges: a model with its energy."""

    @property
    def track(self) -> Kernel:
        """A step of the refinement that notes the value in ``trace``."""

    @property
    def evaluate(self) -> Kernel:
        """Adds ``f``, and perhaps ``slope``, the norm of its gradient."""


def judge(
    model: Judge, rows: Rows, job: ScoreJob, known: Mapping[str, Any] | None, most: float = MAX_PIXEL
) -> Task[Output]:
    """The value ``f`` of one row; with steps > 0 also ``trace``, f before the refinement and after each of its steps.

    Args:
        model: its kernels.
        rows: one row of state of the refinement.
        job: steps and their sizes.
        known: values of real images under the same condition, if they were measured.
        most: the greatest pixel that the refinement may reach.
    """
    seeds = row_seeds(job.seed, 1)
    judged = yield Loop(model.evaluate, rows, steps=1, seeds=seeds, name="score", keep=["f", "slope"])
    f = float(judged["f"])
    numbers: dict[str, list[Any]] = {"f": [f]}
    if known:
        numbers |= {name: [value] for name, value in against(known, f).items()}
    if "slope" in judged:
        numbers["slope"] = judged["slope"].tolist()
    if job.refine and job.steps > 0:
        # Of one length as a rule, so that jobs with different steps share batches.
        trace = torch.zeros(1, max(job.steps, MAX_STEPS), device=rows["y"].device)
        rows = yield Loop(
            model.track,
            {**rows, "trace": trace},
            steps=job.steps,
            seeds=seeds,
            name="refine",
            preview=pictures,
            bound=most,
        )
        numbers["trace"] = [[f, *rows["trace"][0, : job.steps].tolist()]]
    return Output(images=None, energy=-judged["f"], seeds=seeds, numbers=numbers)
