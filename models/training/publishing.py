"""From the end of a training to a model to serve."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoints import CheckpointError, latest_version, publish, read_card, versions
from models.core.noise import STREAM
from models.data.summary import class_counts
from models.systems.registry import VARIANTS, system_of
from models.training.figures import portrait
from models.training.plan import Plan, Progress
from pictures.png import png_of


def published(root: Path, name: str, run: str) -> Path | None:
    """The version of a model that a training has published already. Damaged versions are other trainings' affair."""
    for folder in versions(root, name).values():
        try:
            origin = read_card(folder).get("training")
        except CheckpointError:
            continue
        if isinstance(origin, dict) and origin.get("run") == run:
            return folder
    return None


def publish_run(
    root: Path,
    plan: Plan,
    progress: Progress,
    run: str,
    tensors: Mapping[str, Tensor],
    *,
    samples: Tensor | None,
    beside: Path | None,
) -> Path:
    """Write a trained model as the next version of its name; returns its folder.

    Args:
        root: the folder of models.
        run: the name of the training, :attr:`models.training.folder.Folder.run`.
        tensors: of the model.
        samples: a sheet of what it makes, of which its portrait is taken.
        beside: another folder of models, whose versions of the name are not used again.
    """
    after = latest_version(beside, plan.name) if beside else 0
    return publish(root, _card(plan, progress, run), tensors, after=after, portrait=_portrait(plan, samples))


def _portrait(plan: Plan, samples: Tensor | None) -> bytes | None:
    if samples is None:
        return None
    return png_of(portrait(samples, VARIANTS[plan.variant].headings(plan.config, plan.data.classes)))


def _card(plan: Plan, progress: Progress, run: str) -> dict[str, Any]:
    variant = VARIANTS[plan.variant]
    return {
        "name": plan.name,
        "title": f"{variant.title} trained on {plan.data.name}",
        "description": "",
        "license": "",
        "notice": "",
        "system": system_of(plan.variant),
        "variant": plan.variant,
        **variant.card(plan.config, plan.data.classes),
        "training": _origin(plan, progress, run),
        "metrics": {},
        "known_weaknesses": [],
        **plan.facts,
    }


def _origin(plan: Plan, progress: Progress, run: str) -> dict[str, Any]:
    """How the model was trained."""
    best = {"iteration": progress.best_iteration, "kid": progress.best}
    return {
        "run": run,
        "data": _data(plan),
        "command": plan.command,
        "iterations": progress.iteration,
        **({} if progress.best is None else {"published": best}),
        "wall_seconds": round(progress.seconds, 1),
        "rollbacks": progress.rollbacks,
        "seed": plan.seed,
        "device": str(plan.device),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in ("coopserve", "torch", "numpy")},
            "noise": STREAM,
        },
    }


def _data(plan: Plan) -> dict[str, Any]:
    found = {"name": plan.data.name, "images": len(plan.data), "sha256": plan.data_sha256}
    classes = class_counts(plan.data)
    return {**found, "classes": classes} if classes else found
