"""The hidden part of an image, completed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.core.jobs import InpaintJob
from models.core.loop import Task
from models.core.output import Output
from models.samplers.observation import Observation, whole
from models.systems.aishmc.model import GanModel
from models.systems.aishmc.tasks.answers import answer
from models.systems.aishmc.tasks.generate import generate


def inpaint(model: GanModel, job: InpaintJob) -> Task[Output]:
    """n completions. Known pixels come back bit for bit; what the decoder made of all of them is ``decoded``.

    Where everything is hidden nothing holds the latents, and results are those of ``generate``.
    """
    image, hidden = job.image.to(model.device), job.mask.to(model.device) > 0
    if bool(hidden.all()):
        drawn = yield from generate(model, job)
        return replace(drawn, warnings=["all pixels are hidden, so the images are drawn freely, as by generate"])

    def composed(raw: Tensor) -> Tensor:
        return torch.where(hidden, raw, image)

    known = model.padded((~hidden).float(), 0.0)
    seen = Observation(whole(model.image_shape), model.padded(image), known)
    return (yield from answer(model, job, "inpaint", seen, composed))
