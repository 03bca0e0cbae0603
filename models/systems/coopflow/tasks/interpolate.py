"""Images on the way between two, through the latents of the flow."""

from __future__ import annotations

import torch
from torch import Tensor

from models.core.jobs import InterpolateJob, needed
from models.core.loop import Loop, Rows, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.systems.coopflow.chain import FREE, refined
from models.systems.coopflow.model import CoopFlow
from models.systems.coopflow.tasks.descents import descended, told


def interpolate(model: CoopFlow, job: InterpolateJob) -> Task[Output]:
    """n frames between two images or between the images of two seeds (section 5.4 of the paper).

    The frames are the chains' ends from the images of latents on a line (or on a great circle, ``path`` slerp). Of
    images the ends are their reconstructions; of seeds what ``generate`` makes of them with the same step size.
    """
    keys = row_seeds(job.seed, 1) * job.n
    if job.images is not None:
        ends, warnings = yield from _inferred(model, job)
    else:
        ends, warnings = (yield from _drawn(model, job)), []
    frames = {"z": between(ends, job.n, job.options["path"])}
    rendered = yield Loop(model.render, frames, steps=1, seeds=keys, name="render", keep=["y"])
    steps = job.steps if job.refine else 0
    rows = yield from _refined(model, job, rendered["y"], steps, keys)
    rows = yield Loop(model.evaluate, rows, steps=1, seeds=keys, name="score")
    return Output(images=model.shown(rows), energy=-rows["f"], seeds=keys, animated=True, warnings=warnings)


def _inferred(model: CoopFlow, job: InterpolateJob) -> Task[tuple[Tensor, list[str]]]:
    """The latents of the best starts for the two images, and what is to be said of the search."""
    images = torch.stack(list(needed(job.images, "images"))).to(model.device)
    target, seeds = model.padded(images), row_seeds(job.seed, 2)
    found = yield from descended(model, job, target, target.new_ones(1, 1, 1, 1), seeds)
    rows = yield Loop(model.invert, {"y": found["best"]}, steps=1, seeds=seeds, name="invert", keep=["z"])
    return rows["z"], told(found)


def _drawn(model: CoopFlow, job: InterpolateJob) -> Task[Tensor]:
    """The latents of the first images of the two seeds."""
    seeds = [row_seeds(seed, 1)[0] for seed in needed(job.seeds, "seeds")]
    numbers = model.bounded(2, job.step_size, 0.0)
    rows = yield Loop(model.propose, numbers, steps=1, seeds=seeds, name="propose", keep=["z"])
    return rows["z"]


def _refined(model: CoopFlow, job: InterpolateJob, y: Tensor, steps: int, keys: list[int]) -> Task[Rows]:
    """Frames of seeds as ``generate`` refines them, those of images by the chain of their reconstruction."""
    if job.images is None:
        rows = {**model.bounded(job.n, job.step_size, job.noise), "y": y}
        return (yield from refined(model.refine, rows, steps, keys, model.shown))
    rows = {**model.free(job.n, job.step_size), "y": y}
    return (yield Loop(model.refine, rows, steps, keys, name="refine", preview=model.shown, keep=["y"], bound=FREE))


def between(ends: Tensor, n: int, path: str) -> Tensor:
    """n latents from the first to the second of ``[2, ...]``, both included, n >= 2."""
    share = torch.linspace(0, 1, n, device=ends.device).view(-1, *[1] * (ends.dim() - 1))
    a, b = ends[:1], ends[1:]
    if path == "linear":
        return torch.lerp(a, b, share)
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = torch.arccos(cosine)
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
