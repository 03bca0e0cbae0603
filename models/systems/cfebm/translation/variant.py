"""CF-EBM that translates between two domains, learned without pairs (section 3.3 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.core.model import Tasks
from models.evaluation import domains
from models.systems.base import Variant
from models.systems.cards import card_parts
from models.systems.cfebm.abilities import ability
from models.systems.cfebm.config import TranslationConfig, fit_to
from models.systems.cfebm.curves import CURVES
from models.systems.cfebm.presets import TRANSLATION_PRESETS
from models.systems.cfebm.translation.calibration import calibrate
from models.systems.cfebm.translation.model import CFEBMTranslation, load
from models.systems.cfebm.translation.tasks import score, translate
from models.systems.cfebm.translation.training import make_trainer
from models.training.curves import Headings

TASKS: Tasks[CFEBMTranslation] = {"translate": translate, "score": score}


def describe(config: TranslationConfig, classes: Sequence[str]) -> dict[str, Any]:
    """The parts of a card that follow from the configuration; the domains are its classes."""
    del classes  # of the data: they have none
    steps = {"translate": config.steps, "score": 0}
    tasks = {name: ability(config, name, steps[name]) for name in TASKS}
    return card_parts(config, config.image_size, config.channels, tasks, classes=[config.source, config.target])


TRANSLATION = Variant(
    title="CF-EBM",
    config=TranslationConfig,
    presets=TRANSLATION_PRESETS,
    data="domains",
    fit_to=fit_to,
    trainer=make_trainer,
    load=load,
    card=describe,
    tasks=TASKS,
    evaluation=domains.EVALUATION,
    calibrate=calibrate,
    curves=CURVES,
    headings=lambda config, classes: Headings(
        (),
        (config.source, f"{config.source} to {config.target}", config.target, f"{config.target} to {config.source}"),
        (slice(1, None, 2), slice(None)),
    ),
    alone="",
)
