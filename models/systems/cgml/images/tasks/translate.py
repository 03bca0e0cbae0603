"""One image to another kind of image."""

from __future__ import annotations

from dataclasses import replace

from models.core.jobs import TranslateJob
from models.core.loop import Task
from models.core.output import Output
from models.systems.cgml.images.model import Cgml
from models.systems.cgml.images.tasks.answers import answer
from models.systems.drawings import upright


def translate(model: Cgml, job: TranslateJob) -> Task[Output]:
    """n answers to one condition image, each from a start of its own."""
    drawing, warnings = upright(job.image, model.config.line_art)
    c = model.condition(drawing)
    output = yield from answer(model, job, c, lambda made: model.cropped(made.clamp(-1, 1)), animate=job.animate)
    return replace(output, warnings=warnings)
