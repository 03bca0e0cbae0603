"""The hidden part of an image, completed."""

from __future__ import annotations

import torch
from torch import Tensor

from models.core.jobs import InpaintJob
from models.core.loop import Task
from models.core.output import Output
from models.systems.cgml.images.model import Cgml
from models.systems.cgml.images.tasks.answers import answer


def inpaint(model: Cgml, job: InpaintJob) -> Task[Output]:
    """n completions. Known pixels come back bit for bit."""
    image, hidden = job.image.to(model.device), job.mask.to(model.device) > 0

    def composed(made: Tensor) -> Tensor:
        return torch.where(hidden, model.cropped(made.clamp(-1, 1)), image)

    return (yield from answer(model, job, model.condition(job.image, job.mask), composed))
