"""The way from one condition image to another."""

from __future__ import annotations

import torch

from models.core.jobs import InterpolateJob, needed
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import pictures, repeat
from models.systems.ccoopnets.images.model import ImageCCoopNets
from models.systems.ccoopnets.refinement import refine, step_numbers
from models.systems.drawings import upright


def interpolate(model: ImageCCoopNets, job: InterpolateJob) -> Task[Output]:
    """Mix the encoder's activations, decode all frames with the same dropout masks, refine each (Fig. 11b)."""
    seeds = row_seeds(job.seed, 1) * job.n
    drawings = [upright(image, model.config.line_art) for image in needed(job.images, "images")]
    first, second = (repeat(drawing, job.n, model.device) for drawing, _ in drawings)
    w = torch.linspace(0, 1, job.n, device=model.device).reshape(-1, 1, 1, 1)
    numbers = step_numbers(model.config.refinement, job, job.n, model.device)
    rows = {"c": first, "c1": second, "w": w, **numbers}
    rows = yield Loop(model.propose_between, rows, steps=1, seeds=seeds, name="propose", keep=["y"])
    if job.mix == "energy":
        rows = yield from refine(model.between, rows, job, seeds)
    else:
        rows = {"c": torch.lerp(first, second, w), "y": rows["y"], **numbers}
        rows = yield from refine(model, rows, job, seeds)
    return Output(
        images=pictures(rows),
        energy=-rows["f"],
        seeds=seeds,
        numbers={"t": w.flatten().tolist()},
        animated=True,
        warnings=list(dict.fromkeys(warning for _, warnings in drawings for warning in warnings)),
    )
