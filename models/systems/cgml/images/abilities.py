"""What a card says of each task: defaults, limits and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.core.rows import MAX_STEPS
from models.samplers.predicted import FRAMES, MOMENTA
from models.systems.cgml.images.config import Config

STEPS = 20
"""Steps of the predictor, if a request does not say."""
_DEFAULTS = {"n": 1, "steps": STEPS, "step_size": 1.0, "noise": 0.0, "refine": True}
_LIMITS = {
    "max_n": 64,
    "max_steps": MAX_STEPS,
    "trained_steps": STEPS,
    "step_size": [1.0, 1.0],
    "noise": [0.0, 0.0],
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "momentum": {
        "type": "string",
        "default": MOMENTA[0],
        "choices": list(MOMENTA),
        "description": "Which steps have the predicted length: the first half (`push_settle`), none (`off`), or all, "
        "as in the paper (`eq4`), which circles around a mode.",
    },
    "alpha": {
        "type": "number",
        "default": 1.0,
        "range": [0.0, 4.0],
        "description": "How many times the predicted length these steps have.",
    },
    "uncertainty": {
        "type": "integer",
        "default": 0,
        "range": [0, 64],
        "description": "Draw each result so often again from places near its latent, and add a map of how much these "
        "pictures differ; 0: no map, 1 tells nothing.",
        "cost": {"weight": 8.0},
    },
    "delta": {
        "type": "number",
        "default": 0.1,
        "range": [0.0, 1.0],
        "description": "How far these places are at most; latents lie on a sphere of radius 1.",
    },
    "trajectory": {
        "type": "integer",
        "default": 0,
        "range": [0, MAX_STEPS],
        "description": f"Also show each result after every so many steps, {FRAMES} times at most; 0: no.",
    },
}


def abilities(config: Config) -> dict[str, Any]:
    """The part ``tasks`` of a card: the task that the model was trained for, and the vector of its encoder."""
    own: dict[str, Any] = {"defaults": _DEFAULTS, "limits": _LIMITS, "options": dict(OPTIONS)}
    if config.training.deterministic:  # one answer, from the latent 0
        own = {
            "defaults": {**_DEFAULTS, "steps": 0},
            "limits": {**_LIMITS, "max_n": 1, "max_steps": 0, "trained_steps": 0},
            "options": {},
        }
    if config.task == "colorize":
        own["lightness"] = "cielab"
    vector = {
        "defaults": {**_DEFAULTS, "steps": 0},
        "limits": {**_LIMITS, "max_n": 1, "max_steps": 0, "trained_steps": 0},
        "options": {},
    }
    return {config.task: own, "embed": vector}
