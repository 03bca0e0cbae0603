"""The hidden part of an image, completed."""

from __future__ import annotations

import torch

from models.core.jobs import InpaintJob
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import repeat
from models.systems.coopflow.model import CoopFlow
from models.systems.coopflow.tasks.descents import descended, told, trace_of


def inpaint(model: CoopFlow, job: InpaintJob) -> Task[Output]:
    """n completions: starts whose chains end at the image where it is shown (section 5.3 of the paper).

    Shown pixels come back as they were. ``residual`` is the mean squared difference of the chain's end to them,
    ``trace`` that after each iteration (with the border around images that are smaller than the networks').
    """
    seeds = row_seeds(job.seed, job.n)
    target = repeat(model.padded(job.image.to(model.device)), job.n, model.device)
    known = 1 - repeat(model.padded(job.mask.to(model.device), 0.0), job.n, model.device)
    found = yield from descended(model, job, target, known, seeds)
    filled = torch.where(known > 0, target, found["image"].clamp(-1, 1))
    rows = {**model.free(job.n, job.step_size), "y": filled}
    rows = yield Loop(model.evaluate, rows, steps=1, seeds=seeds, name="score", keep=["f", "y"])
    shown = model.cropped(known)
    off = (shown * model.cropped(found["image"].clamp(-1, 1) - target)).square().flatten(1).sum(1)
    counted = shown.flatten(1).sum(1).clamp(min=1) * model.config.channels
    numbers = {"residual": (off / counted).tolist(), "trace": trace_of(found)}
    return Output(images=model.shown(rows), energy=-rows["f"], seeds=seeds, numbers=numbers, warnings=told(found))
