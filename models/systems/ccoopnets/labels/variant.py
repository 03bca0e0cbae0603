"""CCoopNets whose condition is a class label (sections 4.1.2 to 4.1.4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from models.core.model import Tasks
from models.data.images import ImageData
from models.evaluation import labels
from models.systems.base import Variant
from models.systems.cards import card_parts
from models.systems.ccoopnets.abilities import abilities
from models.systems.ccoopnets.curves import CURVES
from models.systems.ccoopnets.labels.calibration import calibrate
from models.systems.ccoopnets.labels.config import PRESETS, Config, fit_to
from models.systems.ccoopnets.labels.model import CCoopNets, load
from models.systems.ccoopnets.labels.problem import COLUMNS, LabelProblem
from models.systems.ccoopnets.labels.tasks.generate import generate
from models.systems.ccoopnets.labels.tasks.interpolate import interpolate
from models.systems.ccoopnets.labels.tasks.latents import LATENT_STEPS, reconstruct, restyle
from models.systems.ccoopnets.labels.tasks.score import score
from models.systems.ccoopnets.training import CCoopTrainer
from models.training.curves import Headings
from models.training.team import ALONE, Team

TASKS: Tasks[CCoopNets] = {
    "generate": generate,
    "interpolate": interpolate,
    "restyle": restyle,
    "reconstruct": reconstruct,
    "score": score,
}


def make_trainer(config: Config, data: ImageData, seed: int, device: torch.device, team: Team = ALONE) -> CCoopTrainer:
    """A fresh training of a configuration that was fitted to the data."""
    return CCoopTrainer(config, LabelProblem(config, data, seed, device), seed, device, team)


def describe(config: Config, classes: Sequence[str]) -> dict[str, Any]:
    """The parts of a card that follow from the configuration: image, classes, tasks with defaults and limits."""
    latent = {"options": {"latent_steps": LATENT_STEPS}}
    tasks = abilities(config.refinement, TASKS, {"restyle": latent, "reconstruct": latent})
    return card_parts(config, config.size, config.channels, tasks, classes=classes)


LABELS = Variant(
    title="CCoopNets",
    config=Config,
    presets=PRESETS,
    data="images",
    fit_to=fit_to,
    trainer=make_trainer,
    load=load,
    card=describe,
    tasks=TASKS,
    evaluation=labels.EVALUATION,
    calibrate=calibrate,
    curves=CURVES,
    headings=lambda config, classes: Headings(
        (("proposed", COLUMNS), ("refined", COLUMNS)), tuple(classes), (slice(None), slice(COLUMNS, None))
    ),
    alone="",
)
