"""Trained classifiers on disk: safetensors beside a JSON file, and a cache of the ones that evaluations use."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from models.data.images import DataError, ImageData
from models.metrics.classifier import Classifier, train_classifier

_WEIGHTS, _CARD = "weights.safetensors", "classifier.json"
_RECIPE = 1  # raise it when network or training change, so that no older classifier is taken from the cache


class ClassifierCard(BaseModel):
    """What the JSON file says: all that is needed to build the network, and the weights that belong to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: int
    size: int
    classes: tuple[str, ...]
    weights_sha256: str


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Write a classifier to a new folder, whole or not at all. If the folder is there already, it is left alone."""
    weights = save({name: tensor.contiguous().cpu() for name, tensor in classifier.state_dict().items()})
    card = ClassifierCard(
        channels=classifier.channels,
        size=classifier.size,
        classes=classifier.classes,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".classifier-", dir=folder.parent) as temporary:
        ready = Path(temporary, "ready")
        ready.mkdir()
        (ready / _WEIGHTS).write_bytes(weights)
        (ready / _CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
        try:
            ready.rename(folder)
        except OSError:
            # Another process saved the same classifier in the meantime: keep that one.
            if not folder.is_dir():
                raise


def load_classifier(folder: Path, device: str = "cpu") -> Classifier:
    """Read a classifier that :func:`save_classifier` wrote.

    Raises:
        DataError: a file is missing, damaged, or does not belong to the other.
    """
    try:
        card = ClassifierCard.model_validate_json((folder / _CARD).read_text(encoding="utf-8"))
        content = (folder / _WEIGHTS).read_bytes()
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise DataError(f"the classifier in {folder} can't be read: {error}; remove the folder") from error
    if hashlib.sha256(content).hexdigest() != card.weights_sha256:
        raise DataError(f"the weights in {folder} are not those that its {_CARD} names; remove the folder")
    classifier = Classifier(card.channels, card.size, card.classes)
    try:
        classifier.load_state_dict(load(content))
    except (SafetensorError, RuntimeError) as error:
        raise DataError(f"the weights in {folder} don't fit the network: {error}; remove the folder") from error
    return classifier.eval().to(device)


def load_or_train(
    root: Path,
    name: str,
    data: ImageData,
    *,
    seed: int = 0,
    epochs: int = 5,
    progress: Callable[[str], None],
    device: str = "cpu",
) -> Classifier:
    """The classifier of these data and settings: from ``root/classifiers``, or trained now and kept there.

    Args:
        name: of the data, or their path: its folder begins with the last part, and a hash of data and settings follows.
        data: the training images with labels; see :func:`models.metrics.classifier.train_classifier`.
    """
    settings: dict[str, Any] = {"recipe": _RECIPE, "data": data.sha256(), "seed": seed, "epochs": epochs}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    folder = root / "classifiers" / f"{Path(name).stem}-{key}"
    if folder.is_dir():
        progress(f"classifier: from {folder}")
        return load_classifier(folder, device)
    progress(f"classifier: training on {len(data):,} images of {data.name}, {epochs} epochs; it is kept in {folder}")
    classifier = train_classifier(data, seed=seed, epochs=epochs, progress=progress, device=device)
    save_classifier(classifier, folder)
    return classifier
