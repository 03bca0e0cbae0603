"""One image to another kind of image."""

from __future__ import annotations

from typing import NamedTuple

from models.core.jobs import TranslateJob
from models.core.loop import Kernel, Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import begin_film, end_film, pictures, repeat
from models.systems.ccoopnets.images.model import ImageCCoopNets
from models.systems.ccoopnets.refinement import refine, step_numbers
from models.systems.drawings import upright


class Filmed(NamedTuple):
    """The refinement that also notes its way."""

    refine: Kernel
    evaluate: Kernel


def translate(model: ImageCCoopNets, job: TranslateJob) -> Task[Output]:
    """n answers to one condition image, each by its own dropout masks (sections 4.2.2 and 4.2.3 of the paper)."""
    seeds = row_seeds(job.seed, job.n)
    drawing, warnings = upright(job.image, model.config.line_art)
    rows = {
        "c": repeat(drawing, job.n, model.device),
        **step_numbers(model.config.refinement, job, job.n, model.device),
    }
    rows = yield Loop(model.propose, rows, steps=1, seeds=seeds, name="propose", keep=["y"])  # fast thinking
    if not job.animate:
        rows = yield from refine(model, rows, job, seeds)  # slow thinking
        return Output(images=pictures(rows), energy=-rows["f"], seeds=seeds, warnings=warnings)
    rows |= begin_film(rows["y"], job.steps if job.refine else 0)
    rows = yield from refine(Filmed(model.film, model.evaluate), rows, job, seeds)
    film = end_film(rows)
    return Output(images=pictures(rows), energy=-rows["f"], seeds=seeds, warnings=warnings, film=film)
