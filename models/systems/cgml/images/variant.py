"""cGML for images: translation, colouring and completion (sections 5.1 to 5.3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.core.model import Tasks
from models.evaluation import modes
from models.systems.base import Variant
from models.systems.cards import card_parts
from models.systems.cgml.curves import CURVES
from models.systems.cgml.images.abilities import abilities
from models.systems.cgml.images.calibration import calibrate
from models.systems.cgml.images.config import Config, fit_to
from models.systems.cgml.images.model import Cgml, load
from models.systems.cgml.images.presets import PRESETS
from models.systems.cgml.images.tasks.colorize import colorize
from models.systems.cgml.images.tasks.embed import embed
from models.systems.cgml.images.tasks.inpaint import inpaint
from models.systems.cgml.images.tasks.translate import translate
from models.systems.cgml.images.training import make_trainer
from models.systems.cgml.trainer import SHEET_RESULTS
from models.training.curves import Headings

TASKS: Tasks[Cgml] = {"translate": translate, "colorize": colorize, "inpaint": inpaint, "embed": embed}


def describe(config: Config, classes: Sequence[str]) -> dict[str, Any]:
    """The parts of a card that follow from the configuration: image, condition, tasks with defaults and limits."""
    del classes  # the condition is an image
    condition = config.condition_channels if config.task == "translate" else None
    return card_parts(config, config.image_size, config.channels, abilities(config), condition_channels=condition)


CGML_IMAGES = Variant(
    title="cGML",
    config=Config,
    presets=PRESETS,
    data="images",
    fit_to=fit_to,
    trainer=make_trainer,
    load=load,
    card=describe,
    tasks=TASKS,
    evaluation=modes.evaluation(lambda model: model.config.task),
    calibrate=calibrate,
    curves=CURVES,
    headings=lambda config, classes: Headings(
        (("given", 1), ("answers", SHEET_RESULTS), ("real", 1)), made=(slice(None), slice(1, -1))
    ),
    alone="its iteration is one recorded graph, in which processes do not exchange gradients",
)
