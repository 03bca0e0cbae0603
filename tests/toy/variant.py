"""The toy as the registry has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.core.model import Tasks
from models.core.rows import MAX_STEPS
from models.data.images import ImageData, to_float
from models.systems.base import Variant
from models.systems.calibration import summary
from models.training.curves import Curve, Headings
from tests.toy.config import PRESETS, Config, fit_to
from tests.toy.evaluation import EVALUATION
from tests.toy.model import Toy, load
from tests.toy.tasks import generate, score
from tests.toy.training import Trainer

TASKS: Tasks[Toy] = {"generate": generate, "score": score}


def describe(config: Config, classes: Sequence[str]) -> dict[str, Any]:
    del classes
    defaults = {"n": 1, "steps": config.steps, "step_size": 1.0, "noise": 0.0, "refine": True}
    limits = {"max_n": 64, "max_steps": MAX_STEPS, "trained_steps": config.steps, "step_size": [0, 4], "noise": [0, 1]}
    return {
        "image": {"height": config.size, "width": config.size, "channels": config.channels},
        "classes": None,
        "tasks": {
            "generate": {"defaults": defaults, "limits": limits},
            "score": {"defaults": {**defaults, "steps": 0}, "limits": {**limits, "max_n": 1}},
        },
        "config": config.model_dump(mode="json"),
    }


def calibrate(model: Toy, data: ImageData) -> dict[str, Any]:
    return {"data": data.name, "pooled": summary(model.log_density(to_float(data.images)))}


GAUSSIAN = Variant(
    title="Toy",
    config=Config,
    presets=PRESETS,
    data="images",
    fit_to=fit_to,
    trainer=Trainer,
    load=load,
    card=describe,
    tasks=TASKS,
    evaluation=EVALUATION,
    calibrate=calibrate,
    density=lambda model: model.log_density,
    curves={"gap": Curve("mean of real images less mean of chain ends", "pixels -1..1", "near 0", headline=True)},
    headings=lambda config, classes: Headings((), ("proposed", "refined"), (slice(1, None), slice(None))),
)
