"""From what a client asks for to what a training is given: its data and settings, and what its card says."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from models.data.catalog import DATASETS
from models.data.images import DataError
from service.contract.data_places import find_data, known_names
from service.contract.trainings import TrainingRequest


def data_source(name: str, root: Path, owner: str | None = None) -> str:
    """The name of a known data set, or the file or folder of another: clients never name a path.

    Raises:
        DataError: there is none.
    """
    if name in DATASETS:
        return name
    if path := find_data(root, name, owner):
        return str(path)
    known = ", ".join(dict.fromkeys([*DATASETS, *known_names(root, owner)]))
    raise DataError(f"there is no data set {name!r}; choose one of: {known}")


def overrides_of(request: TrainingRequest) -> dict[str, Any]:
    """All settings that a request replaces, by dotted path."""
    own = {"training.iterations": request.iterations, "training.batch_size": request.batch_size}
    return {**request.overrides, **{path: value for path, value in own.items() if value is not None}}


def command_of(request: TrainingRequest) -> str:
    """The command line that repeats a training, quoted for a shell: clients may write what they like into settings."""
    words = ["coopserve", "train", "--system", request.system, "--preset", request.preset, "--data", request.data]
    words += ["--name", request.name, "--seed", str(request.seed)]
    for option, value in {"--image-size": request.image_size, "--channels": request.channels}.items():
        words += [] if value is None else [option, str(value)]
    if request.direction != "AtoB":
        words += ["--direction", request.direction]
    for path, value in overrides_of(request).items():
        words += ["--set", f"{path}={_argument(value)}"]
    return shlex.join(words)


def _argument(value: object) -> str:
    """A value as ``--set`` reads it: JSON, and else a string as it stands."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)


def data_facts(name: str) -> dict[str, str]:
    """What a card says of the rights in a model trained on these data."""
    known = DATASETS.get(name)
    return {"license": known.licence, "notice": known.notice} if known else {}


def owner_facts(owner: str | None) -> dict[str, str]:
    """What a card says of the owner of a model; nothing if it is everybody's."""
    return {} if owner is None else {"owner": owner}
