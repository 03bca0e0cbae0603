"""An image, made again by the model."""

from __future__ import annotations

from models.core.jobs import ReconstructJob
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import repeat
from models.metrics.pictures import psnr
from models.systems.coopflow.model import CoopFlow
from models.systems.coopflow.tasks.descents import descended, told, trace_of


def reconstruct(model: CoopFlow, job: ReconstructJob) -> Task[Output]:
    """The end of the chain from the start that is best for the image (section 5.3 of the paper), n times.

    ``residual`` is the mean squared difference of an element, images in [-1, 1]; ``trace`` that after each iteration;
    ``psnr`` is in dB of 8-bit images; ``latent`` the root mean square of the start's latent, 1 for a typical one.
    """
    seeds = row_seeds(job.seed, job.n)
    target = repeat(model.padded(job.image.to(model.device)), job.n, model.device)
    found = yield from descended(model, job, target, target.new_ones(1, 1, 1, 1), seeds)
    inverted = yield Loop(model.invert, {"y": found["best"]}, steps=1, seeds=seeds, name="invert", keep=["z"])
    rows = {**model.free(job.n, job.step_size), "y": found["image"]}
    rows = yield Loop(model.evaluate, rows, steps=1, seeds=seeds, name="score", keep=["f", "y"])
    images, own = model.shown(rows), model.cropped(target)
    numbers = {
        "residual": (images - own).square().flatten(1).mean(1).tolist(),
        "psnr": psnr(images.cpu(), own.cpu()).tolist(),
        "latent": inverted["z"].square().flatten(1).mean(1).sqrt().tolist(),
        "trace": trace_of(found),
    }
    extras = {"start": model.cropped(found["best"])}
    return Output(images=images, energy=-rows["f"], seeds=seeds, numbers=numbers, extras=extras, warnings=told(found))
