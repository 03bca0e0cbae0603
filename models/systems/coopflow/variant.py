"""CoopFlow as the registry has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.core.model import Tasks
from models.evaluation import cooperation
from models.systems.base import Variant
from models.systems.cards import card_parts
from models.systems.coopflow.abilities import abilities
from models.systems.coopflow.calibration import calibrate
from models.systems.coopflow.config import Config, fit_to
from models.systems.coopflow.curves import CURVES, headings
from models.systems.coopflow.model import CoopFlow, load
from models.systems.coopflow.presets import PRESETS
from models.systems.coopflow.tasks.generate import generate
from models.systems.coopflow.tasks.inpaint import inpaint
from models.systems.coopflow.tasks.interpolate import interpolate
from models.systems.coopflow.tasks.reconstruct import reconstruct
from models.systems.coopflow.tasks.score import score
from models.systems.coopflow.training import make_trainer

TASKS: Tasks[CoopFlow] = {
    "generate": generate,
    "reconstruct": reconstruct,
    "inpaint": inpaint,
    "interpolate": interpolate,
    "score": score,
}


def describe(config: Config, classes: Sequence[str]) -> dict[str, Any]:
    """The parts of a card that follow from the configuration: image and tasks with defaults and limits."""
    del classes  # neither model is given a label
    return card_parts(config, config.image_size, config.channels, abilities(config))


COOPFLOW = Variant(
    title="CoopFlow",
    config=Config,
    presets=PRESETS,
    data="images",
    fit_to=fit_to,
    trainer=make_trainer,
    load=load,
    card=describe,
    tasks=TASKS,
    evaluation=cooperation.EVALUATION,
    calibrate=calibrate,
    curves=CURVES,
    headings=headings,
    alone="",
)
