"""How well a picture answers its condition image, in numbers."""

from __future__ import annotations

from models.core.jobs import ScoreJob, needed
from models.core.loop import Task
from models.core.output import Output
from models.core.rows import repeat
from models.data.holes import centred_square
from models.systems.ccoopnets.images.conditions import condition_of
from models.systems.ccoopnets.images.model import ImageCCoopNets
from models.systems.ccoopnets.refinement import step_numbers
from models.systems.drawings import upright
from models.systems.judging import judge


def score(model: ImageCCoopNets, job: ScoreJob) -> Task[Output]:
    """The value of a picture, calibrated on held-out pairs (pooled, since no condition has more than one)."""
    y = repeat(job.image, 1, model.device)
    numbers = step_numbers(model.config.refinement, job, 1, model.device)
    known = model.calibration.get("pooled")
    if model.config.task == "translate":
        condition, _ = upright(needed(job.condition, "condition"), model.config.line_art)
        rows = {"y": y, "c": repeat(condition, 1, model.device), **numbers}
    else:
        mask = centred_square(model.config.size)[None].float() if job.mask is None else job.mask
        mask = repeat(mask, 1, model.device)
        rows = {"y": y, "c": condition_of(y, mask), "mask": mask, **numbers}
    return (yield from judge(model, rows, job, known))
