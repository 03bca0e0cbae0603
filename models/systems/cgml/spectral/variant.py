"""cGML for surfaces: noise removed from spectral maps (section 5.4 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.core.model import Tasks
from models.evaluation.surfaces import EVALUATION
from models.systems.base import Variant
from models.systems.cgml.curves import CURVES
from models.systems.cgml.images.abilities import abilities
from models.systems.cgml.spectral.calibration import calibrate
from models.systems.cgml.spectral.config import Config, fit_to
from models.systems.cgml.spectral.model import Spectral, load
from models.systems.cgml.spectral.presets import PRESETS
from models.systems.cgml.spectral.tasks.denoise import denoise
from models.systems.cgml.spectral.training import make_trainer
from models.systems.cgml.trainer import SHEET_RESULTS
from models.training.curves import Headings

TASKS: Tasks[Spectral] = {"denoise": denoise}
_MOST = 16
"""Surfaces a job: each has files of some hundred kilobytes."""


def describe(config: Config, classes: Sequence[str]) -> dict[str, Any]:
    """The parts of a card that follow from the configuration; the classes of the data are nothing to it."""
    del classes
    own = abilities(config.maps)["inpaint"]
    limits = {**own["limits"], "max_n": min(_MOST, own["limits"]["max_n"])}
    return {
        "image": {"height": config.picture, "width": config.picture, "channels": 1},
        "surface": {"degrees": config.degrees},
        "classes": None,
        "tasks": {"denoise": {**own, "limits": limits}},
        "config": config.model_dump(mode="json"),
    }


CGML_SPECTRAL = Variant(
    title="cGML",
    config=Config,
    presets=PRESETS,
    data="images",
    fit_to=fit_to,
    trainer=make_trainer,
    load=load,
    card=describe,
    tasks=TASKS,
    evaluation=EVALUATION,
    calibrate=calibrate,
    curves=CURVES,
    headings=lambda config, classes: Headings(
        (("given", 1), ("answers", SHEET_RESULTS), ("real", 1)), made=(slice(None), slice(1, -1))
    ),
    alone="its iteration is one recorded graph, in which processes do not exchange gradients",
)
"""What a model can do that was trained on spectral maps."""
