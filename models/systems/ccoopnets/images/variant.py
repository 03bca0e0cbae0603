"""CCoopNets whose condition is an image: translation of aligned pairs, and inpainting (sections 4.2.2 to 4.2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from models.core.model import Tasks
from models.data.images import ImageData
from models.evaluation import pictures
from models.systems.base import Variant
from models.systems.cards import card_parts
from models.systems.ccoopnets.abilities import abilities
from models.systems.ccoopnets.curves import CURVES
from models.systems.ccoopnets.images.calibration import calibrate
from models.systems.ccoopnets.images.config import IMAGE_PRESETS, ImageConfig, fit_image_config
from models.systems.ccoopnets.images.model import ImageCCoopNets, load
from models.systems.ccoopnets.images.problem import ImageProblem
from models.systems.ccoopnets.images.tasks.inpaint import inpaint
from models.systems.ccoopnets.images.tasks.interpolate import interpolate
from models.systems.ccoopnets.images.tasks.score import score
from models.systems.ccoopnets.images.tasks.translate import translate
from models.systems.ccoopnets.training import CCoopTrainer
from models.training.curves import Headings
from models.training.team import ALONE, Team

TASKS: Tasks[ImageCCoopNets] = {
    "translate": translate,
    "inpaint": inpaint,
    "interpolate": interpolate,
    "score": score,
}

_ABLE = {"translate": ("translate", "interpolate", "score"), "inpaint": ("inpaint", "score")}
"""The tasks of a model, by the one that it was trained for."""


def make_trainer(
    config: ImageConfig, data: ImageData, seed: int, device: torch.device, team: Team = ALONE
) -> CCoopTrainer:
    """A fresh training of a configuration that was fitted to the data."""
    return CCoopTrainer(config, ImageProblem(config, data, seed, device), seed, device, team)


def describe(config: ImageConfig, classes: Sequence[str]) -> dict[str, Any]:
    """The parts of a card that follow from the configuration: image, condition, tasks with defaults and limits."""
    del classes  # the condition is an image
    condition = config.condition_channels if config.task == "translate" else None
    tasks = abilities(config.refinement, _ABLE[config.task])
    return card_parts(config, config.size, config.channels, tasks, condition_channels=condition)


IMAGES = Variant(
    title="CCoopNets",
    config=ImageConfig,
    presets=IMAGE_PRESETS,
    data="images",
    fit_to=fit_image_config,
    trainer=make_trainer,
    load=load,
    card=describe,
    tasks=TASKS,
    evaluation=pictures.evaluation(lambda model: model.config.task),
    calibrate=calibrate,
    curves=CURVES,
    headings=lambda config, classes: Headings(
        (("given", 1), ("proposed", 1), ("refined", 1), ("real", 1)), made=(slice(None), slice(2, 3))
    ),
    alone="",
)
