"""The hidden part of an image, completed."""

from __future__ import annotations

from models.core.jobs import InpaintJob
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import pictures, repeat
from models.systems.ccoopnets.images.conditions import condition_of
from models.systems.ccoopnets.images.model import ImageCCoopNets
from models.systems.ccoopnets.refinement import refine, step_numbers


def inpaint(model: ImageCCoopNets, job: InpaintJob) -> Task[Output]:
    """n completions (section 4.2.4): initializer and solver change hidden pixels alone, the others stay bit for bit."""
    seeds = row_seeds(job.seed, job.n)
    visible, mask = (repeat(v, job.n, model.device) for v in (job.image, job.mask))
    numbers = step_numbers(model.config.refinement, job, job.n, model.device)
    rows = {"c": condition_of(visible, mask), "visible": visible, "mask": mask, **numbers}
    rows = yield Loop(model.propose, rows, steps=1, seeds=seeds, name="propose", keep=[])  # fast thinking
    rows.pop("visible", None)  # it is in y now
    rows = yield from refine(model, rows, job, seeds)  # slow thinking
    return Output(images=pictures(rows), energy=-rows["f"], seeds=seeds)
