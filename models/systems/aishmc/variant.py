"""A progressive GAN whose latents are solved for at request time (section 4.2 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.core.model import Tasks
from models.evaluation import cogeneration
from models.systems.aishmc.abilities import abilities
from models.systems.aishmc.calibration import calibrate
from models.systems.aishmc.config import Config, fit_to
from models.systems.aishmc.curves import CURVES
from models.systems.aishmc.model import GanModel, load
from models.systems.aishmc.presets import PRESETS
from models.systems.aishmc.tasks.colorize import colorize
from models.systems.aishmc.tasks.generate import generate
from models.systems.aishmc.tasks.inpaint import inpaint
from models.systems.aishmc.tasks.reconstruct import reconstruct
from models.systems.aishmc.tasks.score import score
from models.systems.aishmc.tasks.upscale import upscale
from models.systems.aishmc.training import SHEET, make_trainer
from models.systems.base import Variant
from models.systems.cards import card_parts
from models.training.curves import Headings

TASKS: Tasks[GanModel] = {
    "generate": generate,
    "inpaint": inpaint,
    "reconstruct": reconstruct,
    "upscale": upscale,
    "colorize": colorize,
    "score": score,
}


def describe(config: Config, classes: Sequence[str]) -> dict[str, Any]:
    """The parts of a card that follow from the configuration: image and tasks with defaults, limits and options."""
    del classes  # the generator is given no label
    return card_parts(config, config.image_size, config.channels, abilities(config))


PGAN = Variant(
    title="AIS-HMC",
    config=Config,
    presets=PRESETS,
    data="images",
    fit_to=fit_to,
    trainer=make_trainer,
    load=load,
    card=describe,
    tasks=TASKS,
    evaluation=cogeneration.EVALUATION,
    calibrate=calibrate,
    curves=CURVES,
    headings=lambda config, classes: Headings((("images of the averaged generator, latents that stay", SHEET),)),
    alone="its critic judges an image by the whole batch around it (the deviation map), so a batch can't be divided",
)
