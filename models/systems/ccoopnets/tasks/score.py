"""How well an image fits what the model has learned, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from models.loop import Kernel, Loop, Rows, Task
from models.noise import row_seeds
from models.systems.base import Output
from models.systems.ccoopnets.calibration import against
from models.systems.ccoopnets.tasks.common import (
    MAX_STEPS,
    RefineJob,
    check_range,
    label_weights,
    pictures,
    repeat,
    step_numbers,
)

if TYPE_CHECKING:
    from models.systems.ccoopnets.model import CCoopNets


class Judge(Protocol):
    """What judges: a model with its solver."""

    @property
    def track(self) -> Kernel:
        """A step of the refinement that notes the value in ``trace``."""

    @property
    def evaluate(self) -> Kernel:
        """Adds ``f``."""


class JudgeJob(RefineJob, Protocol):
    """The part of a resolved request that judging needs."""

    seed: int


class ScoreJob(JudgeJob, Protocol):
    """The resolved request of ``score``: ``image`` ``[C, H, W]`` in [-1, 1], ``label`` as weights by class name."""

    image: Tensor
    label: Mapping[str, float]


def score(model: CCoopNets, job: ScoreJob) -> Task[Output]:
    """The value of an image under its label; calibrated if the label is one class (f compares within a class only)."""
    rows = {
        "y": repeat(job.image, 1, model.device),
        "c": label_weights(job.label, model.classes, model.device)[None],
        **step_numbers(model.config.refinement, job, 1, model.device),
    }
    classes = [name for name, weight in job.label.items() if weight > 0]
    known = model.calibration.get("conditions", {}).get(classes[0]) if len(classes) == 1 else None
    return (yield from judge(model, rows, job, known))


def judge(model: Judge, rows: Rows, job: JudgeJob, known: Mapping[str, Any] | None) -> Task[Output]:
    """The value ``f`` of one row; with steps > 0 also ``trace``, f before the refinement and after each of its steps.

    Args:
        model: its kernels.
        rows: one row of state of the refinement.
        job: steps and their sizes.
        known: values of real images under the same condition, if they were measured.
    """
    seeds = row_seeds(job.seed, 1)
    judged = yield Loop(model.evaluate, rows, steps=1, seeds=seeds, name="score")
    f = float(judged["f"])
    numbers: dict[str, list[Any]] = {"f": [f]}
    if known:
        numbers |= {name: [value] for name, value in against(known, f).items()}
    if job.refine and job.steps > 0:
        # Of one length as a rule, so that jobs with different steps share batches.
        trace = torch.zeros(1, max(job.steps, MAX_STEPS), device=rows["y"].device)
        rows = yield Loop(
            model.track, {**rows, "trace": trace}, steps=job.steps, seeds=seeds, name="refine", preview=pictures
        )
        check_range(rows)
        numbers["trace"] = [[f, *rows["trace"][0, : job.steps].tolist()]]
    return Output(images=None, energy=-judged["f"], seeds=seeds, numbers=numbers)
