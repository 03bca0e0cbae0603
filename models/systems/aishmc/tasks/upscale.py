"""A small picture, enlarged by the decoder."""

from __future__ import annotations

from models.core.jobs import UpscaleJob
from models.core.loop import Task
from models.core.output import Output
from models.samplers.observation import Observation, Operator, avg_pool, chain, window
from models.systems.aishmc.model import GanModel
from models.systems.aishmc.tasks.answers import answer


def pooled(model: GanModel, factor: int) -> Operator:
    """The mean of each square of ``factor`` pixels a side, of images without their border."""
    size = model.config.image_size
    return chain(window(model.image_shape, model.margin), avg_pool((model.config.channels, size, size), factor))


def upscale(model: GanModel, job: UpscaleJob) -> Task[Output]:
    """n images whose averages over squares of ``factor`` pixels are the picture's."""
    seen = Observation(pooled(model, job.options["factor"]), job.image, job.image.new_ones(1, 1, 1))
    return (yield from answer(model, job, "upscale", seen))
