"""The way from one class to another."""

from __future__ import annotations

import torch

from models.core.jobs import InterpolateJob, needed
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import pictures
from models.systems.ccoopnets.labels.model import CCoopNets
from models.systems.ccoopnets.refinement import label_weights, refine, step_numbers


def interpolate(model: CCoopNets, job: InterpolateJob) -> Task[Output]:
    """Frames of the labels (1 - t) C_0 + t C_1, t = 0 ... 1, all with the same X and the same noise, each refined.

    The first frame is the first image that ``generate`` makes of the first label and the same seed, the last frame
    that of the second.
    """
    seeds = row_seeds(job.seed, 1) * job.n
    first, last = (label_weights(label, model.classes, model.device) for label in needed(job.labels, "labels"))
    t = torch.linspace(0, 1, job.n, device=model.device)
    rows = {
        "c": torch.lerp(first, last, t[:, None]),
        **step_numbers(model.config.refinement, job, job.n, model.device),
    }
    rows = yield Loop(model.propose, rows, steps=1, seeds=seeds, name="propose", keep=[])
    rows = yield from refine(model, rows, job, seeds)
    return Output(images=pictures(rows), energy=-rows["f"], seeds=seeds, numbers={"t": t.tolist()}, animated=True)
