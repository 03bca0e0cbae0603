"""The parts of a card that follow from a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel


def card_parts(
    config: BaseModel,
    size: int,
    channels: int,
    tasks: Mapping[str, Any],
    *,
    condition_channels: int | None = None,
    classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Of a model of square images: image, condition, classes, tasks and the configuration itself.

    Args:
        config: of the model.
        size: pixels of the side of its images, and of its condition images.
        channels: of its images.
        tasks: its tasks, with their defaults, limits and options.
        condition_channels: of its condition images; None for a model without.
        classes: their names; None for a model without.
    """
    side = {"height": size, "width": size}
    return {
        "image": {**side, "channels": channels},
        "condition": None if condition_channels is None else {**side, "channels": condition_channels},
        "classes": None if classes is None else list(classes),
        "tasks": dict(tasks),
        "config": config.model_dump(mode="json"),
    }
