"""What a card says of each task: defaults and limits, which follow from the refinement of the training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models.core.rows import MAX_STEPS
from models.systems.ccoopnets.config import RefinementConfig

FRAMES = 8
"""Frames of an interpolation, if a request does not say."""


def abilities(
    trained: RefinementConfig, tasks: Iterable[str], own: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The part ``tasks`` of a card.

    ``step_size`` is a multiple of the trained eta; ``noise`` is tau itself, in units of the image's range [-1, 1].

    Args:
        trained: the loop of the training.
        tasks: names of the tasks that the model can do.
        own: for some of them ``defaults`` and ``limits`` of their own, and the ``options`` that they take.
    """
    defaults = {"n": 1, "steps": trained.steps, "step_size": 1.0, "noise": 0.0, "refine": True}
    limits = {
        "max_n": 64,
        "max_steps": MAX_STEPS,
        "trained_steps": trained.steps,
        "step_size": [0.0, 4.0],
        "noise": [0.0, 1.0],
    }
    special: dict[str, Mapping[str, Any]] = {
        "interpolate": {"defaults": {"n": FRAMES}},
        "score": {"defaults": {"steps": 0}, "limits": {"max_n": 1}},
        **(own or {}),
    }
    return {
        name: {
            "defaults": {**defaults, **special.get(name, {}).get("defaults", {})},
            "limits": {**limits, **special.get(name, {}).get("limits", {})},
            "options": special.get(name, {}).get("options", {}),
        }
        for name in tasks
    }
