"""CF-EBM that makes images from noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.core.model import Tasks
from models.evaluation import generation
from models.systems.base import Variant
from models.systems.cards import card_parts
from models.systems.cfebm.abilities import ability
from models.systems.cfebm.config import GenerationConfig, fit_to
from models.systems.cfebm.curves import CURVES
from models.systems.cfebm.generation.calibration import calibrate
from models.systems.cfebm.generation.model import EnergyModel, load
from models.systems.cfebm.generation.tasks.denoise import denoise
from models.systems.cfebm.generation.tasks.generate import generate
from models.systems.cfebm.generation.tasks.inpaint import inpaint
from models.systems.cfebm.generation.tasks.score import score
from models.systems.cfebm.generation.training import SHEET, make_trainer
from models.systems.cfebm.presets import GENERATION_PRESETS
from models.training.curves import Headings

_DENOISE_PART = 5
"""Denoising takes the finest stage's trained steps divided by this: 10 of 50, as in the paper."""
_PER_PIXEL = 1.8
"""Inpainting takes the trained steps divided by this (27 of 50): its start is nearer to an image than noise is."""

TASKS: Tasks[EnergyModel] = {
    "generate": generate,
    "inpaint": inpaint,
    "denoise": denoise,
    "score": score,
}


def describe(config: GenerationConfig, classes: Sequence[str]) -> dict[str, Any]:
    """The parts of a card that follow from the configuration: image and tasks with defaults and limits."""
    del classes  # no energy is given a label
    inpaint_steps = config.steps if config.growth == "chained" else round(config.steps / _PER_PIXEL)
    denoise_steps = max(1, round(config.stages[-1].steps / _DENOISE_PART))
    steps = {"generate": config.steps, "inpaint": inpaint_steps, "denoise": denoise_steps, "score": 0}
    tasks = {name: ability(config, name, steps[name]) for name in TASKS}
    return card_parts(config, config.image_size, config.channels, tasks)


GENERATION = Variant(
    title="CF-EBM",
    config=GenerationConfig,
    presets=GENERATION_PRESETS,
    data="images",
    fit_to=fit_to,
    trainer=make_trainer,
    load=load,
    card=describe,
    tasks=TASKS,
    evaluation=generation.EVALUATION,
    calibrate=calibrate,
    density=lambda model: model.log_density,
    curves=CURVES,
    headings=lambda config, classes: Headings((("chain ends, from noise", SHEET),)),
    alone="",
)
