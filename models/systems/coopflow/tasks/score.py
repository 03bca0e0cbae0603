"""How well an image fits what the model has learned, in numbers."""

from __future__ import annotations

import math
from dataclasses import replace

from models.core.jobs import ScoreJob
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import repeat
from models.networks.flow.images import bits_per_dimension
from models.systems.coopflow.model import CoopFlow
from models.systems.judging import judge


def score(model: CoopFlow, job: ScoreJob) -> Task[Output]:
    """f of the image and where it lies among real images, and what the flow says.

    ``log_q`` is the flow's exact log density (nats) at the middle of the image's cell; ``bits`` an upper bound of its
    bits a dimension as an 8-bit image, from ``draws`` draws of noise, over the dimensions that the networks see. Where
    they see a border, ``bits_own`` has all of the bits over the image's own dimensions.
    """
    seeds = row_seeds(job.seed, 1)
    y = repeat(model.padded(job.image.to(model.device)), 1, model.device)
    rows = {**model.free(1, job.step_size), "y": y}
    judged = yield from judge(model, rows, job, model.calibration.get("pooled"))
    inverted = yield Loop(model.invert, {"y": y}, steps=1, seeds=seeds, name="invert", keep=["log_q"])
    draws = job.options["draws"]
    drawn = yield Loop(model.bits, model.undrawn(y), steps=draws, seeds=seeds, name="bits", keep=["total"])
    bits = bits_per_dimension(drawn["total"] - math.log(draws), y[0].numel())
    numbers = {**judged.numbers, "log_q": inverted["log_q"].tolist(), "bits": bits.tolist()}
    if model.config.image_size < model.config.size:
        numbers["bits_own"] = (bits * (model.config.size / model.config.image_size) ** 2).tolist()
    return replace(judged, numbers=numbers)
