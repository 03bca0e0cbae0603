"""A grey picture, coloured by the decoder."""

from __future__ import annotations

from torch import Tensor

from models.core.jobs import ColorizeJob
from models.core.loop import Task
from models.core.output import Output
from models.core.rows import with_lightness
from models.samplers.observation import Observation, chain, grayscale, window
from models.systems.aishmc.model import GanModel
from models.systems.aishmc.tasks.answers import answer


def colorize(model: GanModel, job: ColorizeJob) -> Task[Output]:
    """n colourings. Each pixel has the lightness that was given; what the decoder made of it is ``decoded``."""
    image, size = job.image.to(model.device), model.config.image_size
    operator = chain(window(model.image_shape, model.margin), grayscale((3, size, size)))

    def composed(raw: Tensor) -> Tensor:
        return with_lightness(raw, image)

    seen = Observation(operator, job.image, job.image.new_ones(1, 1, 1))
    return (yield from answer(model, job, "colorize", seen, composed))
