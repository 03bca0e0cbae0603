"""New images."""

from __future__ import annotations

import torch

from models.core.jobs import Job
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.systems.aishmc.model import GanModel


def generate(model: GanModel, job: Job) -> Task[Output]:
    """Latents from the prior, each decoded once. A GAN has no energy."""
    seeds = row_seeds(job.seed, job.n)
    rows = {"x": torch.zeros(job.n, *model.latent_shape, device=model.device)}
    rows = yield Loop(model.draw, rows, steps=1, seeds=seeds, name="draw", keep=["image"])
    return Output(images=model.pictures(rows["image"]), energy=None, seeds=seeds)
