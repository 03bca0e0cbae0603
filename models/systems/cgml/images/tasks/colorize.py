"""A grey picture in colour."""

from __future__ import annotations

from torch import Tensor

from models.core.jobs import ColorizeJob
from models.core.loop import Task
from models.core.output import Output
from models.systems.cgml.images.forms import coloured
from models.systems.cgml.images.model import Cgml
from models.systems.cgml.images.tasks.answers import answer


def colorize(model: Cgml, job: ColorizeJob) -> Task[Output]:
    """n colourings. Only a and b come from the model: each pixel has the lightness L that was given."""
    c = model.condition(job.image)

    def composed(made: Tensor) -> Tensor:
        return model.cropped(coloured(c.expand(len(made), -1, -1, -1), made).clamp(-1, 1))

    return (yield from answer(model, job, c, composed))
