"""How well a picture answers its condition image, in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from models.core.loop import Task
from models.core.rows import repeat
from models.data.holes import centred_square
from models.systems.base import Output
from models.systems.ccoopnets.images.drawings import upright
from models.systems.ccoopnets.images.problem import condition_of
from models.systems.ccoopnets.refinement import RefineJob, step_numbers
from models.systems.judging import JudgeJob, judge

if TYPE_CHECKING:
    from models.systems.ccoopnets.images.model import ImageCCoopNets


class ImageScoreJob(RefineJob, JudgeJob, Protocol):
    """The resolved request of ``score``: the picture ``image`` ``[C, H, W]`` under what the model is conditioned on.

    A translation needs ``condition`` ``[Cc, H, W]``. An inpainting takes the picture itself with the hidden part of
    ``mask`` ``[1, H, W]`` at 0; without a mask, with the centred square of its training.
    """

    image: Tensor
    condition: Tensor | None
    mask: Tensor | None


def score(model: ImageCCoopNets, job: ImageScoreJob) -> Task[Output]:
    """The value of a picture, calibrated on held-out pairs (pooled, since no condition has more than one)."""
    y = repeat(job.image, 1, model.device)
    numbers = step_numbers(model.config.refinement, job, 1, model.device)
    known = model.calibration.get("pooled")
    if model.config.task == "translate":
        assert job.condition is not None  # the contract asks for it
        condition, _ = upright(job.condition, model.config.line_art)
        rows = {"y": y, "c": repeat(condition, 1, model.device), **numbers}
    else:
        mask = centred_square(model.config.size)[None].float() if job.mask is None else job.mask
        mask = repeat(mask, 1, model.device)
        rows = {"y": y, "c": condition_of(y, mask), "mask": mask, **numbers}
    return (yield from judge(model, rows, job, known))
