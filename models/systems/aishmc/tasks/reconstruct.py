"""An image drawn again by the decoder, from the latents that come nearest to it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.core.jobs import ReconstructJob
from models.core.loop import Task
from models.core.output import Output
from models.samplers.observation import Observation, whole
from models.systems.aishmc.model import GanModel
from models.systems.aishmc.tasks.answers import answer


def all_of(model: GanModel, image: Tensor) -> Observation:
    """A whole image, seen without its border."""
    known = model.padded(torch.ones(1, *image.shape[1:], device=model.device), 0.0)
    return Observation(whole(model.image_shape), model.padded(image.to(model.device)), known)


def reconstruct(model: GanModel, job: ReconstructJob) -> Task[Output]:
    """n drawings. ``residual`` is the mean squared difference per pixel from the image."""
    output = yield from answer(model, job, "reconstruct", all_of(model, job.image))
    assert output.images is not None
    difference = output.images - job.image.to(model.device)
    residual = difference.square().flatten(1).mean(1).tolist()
    return replace(output, numbers={"residual": residual, **output.numbers}, extras={})
