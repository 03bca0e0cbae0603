"""What is there already under the name of a model, said before a training begins: no old model passes for a new one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from models.checkpoints import CheckpointError, latest_version, read_card
from models.training.folder import identity_of, run_of
from models.training.plan import Plan
from models.training.publishing import published
from models.training.training import Training


def before(training: Training, models: Path) -> list[str]:
    """Sentences about earlier trainings and versions of the same name.

    Args:
        training: the one that is about to begin or to go on.
        models: the folder of models that it is published to.
    """
    plan, done = training.plan, training.progress.iteration
    if version := training.published(models):
        ref = f"{plan.name}@{version.name}"
        return [f"{ref} was trained with these settings on these data already, so nothing is trained; --fresh does"]
    if done:
        said = [f"going on from iteration {done} of {training.iterations}"]
    else:
        said = [
            f"an unfinished training on other data is in {path}; it can't go on with these, so another one begins"
            for path in _unfinished(plan, training.folder, models)
        ]
    if latest := latest_version(models, plan.name):
        said.append(
            f"{plan.name}@{latest} {_origin(plan, models / plan.name / str(latest))}: this training makes a new version"
        )
    return said


def _origin(plan: Plan, folder: Path) -> str:
    """What an earlier version came from."""
    try:
        data = read_card(folder).get("training", {}).get("data", {})
    except CheckpointError:
        return "is damaged"
    if data.get("sha256") == plan.data_sha256:
        return "was trained on the same data with other settings"
    return f"was trained on other data ({data.get('images', '?')} images)"


def _unfinished(plan: Plan, own: Path, models: Path) -> Iterator[Path]:
    """Folders beside a training's own that hold the same on other data, begun and not published."""
    for path in sorted(own.parent.glob(f"{plan.name}-*")):
        same_name = re.fullmatch(re.escape(plan.name) + r"-[0-9a-f]{8}", path.name)
        if path == own or not same_name or not (path / "state.safetensors").exists():
            continue
        held = identity_of(path) or {}
        settings_agree = {**held, "data": plan.data_sha256} == plan.identity()
        if settings_agree and not published(models, plan.name, run_of(path)):
            yield path
