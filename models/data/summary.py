"""What a training is about to learn from, in sentences."""

from __future__ import annotations

from models.data.kinds import Data
from models.data.unpaired import UnpairedData

_COLOURS = {1: "grey", 3: "in colour"}


def summary(data: Data) -> str:
    """Name, number, size and colours of the images, and how many each class has."""
    channels, height, width = data.shape
    return f"{data.name}: {_counts(data)}, {width}x{height} pixels, {_COLOURS[channels]}{_classes(data)}"


def class_counts(data: Data) -> dict[str, int]:
    """How many images each class has; nothing for data without classes."""
    if isinstance(data, UnpairedData) or data.labels is None:
        return {}
    counts = data.labels.bincount(minlength=len(data.classes)).tolist()
    return dict(zip(data.classes, counts, strict=True))


def _counts(data: Data) -> str:
    if isinstance(data, UnpairedData):
        return f"{len(data.source)} and {len(data.target)} images of two domains"
    return f"{len(data)} {'images' if data.conditions is None else 'pairs'} to learn from"


def _classes(data: Data) -> str:
    found = class_counts(data)
    shown = ", ".join(f"{name} {count}" for name, count in found.items())
    return f"; {len(found)} {'class' if len(found) == 1 else 'classes'}: {shown}" if found else ""
