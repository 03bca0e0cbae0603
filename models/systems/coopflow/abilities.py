"""What a card says of each task: defaults, limits and options."""

from __future__ import annotations

from typing import Any

from models.core.rows import MAX_STEPS
from models.systems.coopflow.config import Config

FRAMES = 21
_MOST_DESCENTS = 1000
_STEP_COST = 4.0
"""Steps that an iteration of a descent costs for each step of its chain: that one, and its adjoint's second derivative
which takes three times as long."""


_SEARCH = {"proposal": False}
"""A proposal is what `generate` can give by itself; other tasks look for the start of a chain, or make no image."""


def abilities(config: Config) -> dict[str, Any]:
    """The part ``tasks`` of a card. ``step_size`` multiplies the trained delta.

    What the pair is compared with has other defaults: an energy that was trained from noise starts there, and a flow
    whose energy has learned nothing is not refined.
    """
    tested = round(config.chain.delta_test / config.chain.delta, 4)
    return {
        "generate": _ability(
            config,
            {"step_size": tested, "refine": config.training.energy_learns},
            {"noise": [0.0, 0.1]},
            {
                "proposal": {
                    "type": "boolean",
                    "default": False,
                    "description": "Also give the flow's proposal, before its refinement.",
                },
                "start": {
                    "type": "string",
                    "default": config.training.start,
                    "choices": ["flow", "noise"],
                    "description": "What is refined: the flow's proposal or, for comparison, uniform noise.",
                },
            },
        ),
        "reconstruct": _ability(config, {}, {"max_n": 8, **_SEARCH}, _descent(config, rate=0.05, decay=1.0)),
        "inpaint": _ability(
            config, {}, {"max_n": 8, "partial_mask": True, **_SEARCH}, _descent(config, rate=0.03, decay=0.99)
        ),
        "interpolate": _ability(
            config,
            {"n": FRAMES},
            _SEARCH,
            {
                **_descent(config, rate=0.03, decay=0.99, share=2 / FRAMES),
                "path": {
                    "type": "string",
                    "default": "linear",
                    "choices": ["linear", "slerp"],
                    "description": "The way between the two latents: a line, or a part of a great circle.",
                },
            },
        ),
        "score": _ability(
            config,
            {"steps": 0},
            {"max_n": 1, **_SEARCH},
            {
                "draws": {
                    "type": "integer",
                    "default": 8,
                    "range": [1, 64],
                    "description": "Draws of noise from which the bound of the bits a dimension is computed.",
                    "cost": {},
                }
            },
        ),
    }


def _ability(
    config: Config, defaults: dict[str, Any], limits: dict[str, Any], options: dict[str, Any]
) -> dict[str, Any]:
    return {
        "defaults": {"n": 1, "steps": config.chain.steps, "step_size": 1.0, "noise": 0.0, "refine": True, **defaults},
        "limits": {
            "max_n": 64,
            "max_steps": MAX_STEPS,
            "trained_steps": config.chain.steps,
            "step_size": [0.0, 4.0],
            "noise": [0.0, 0.0],
            **limits,
        },
        "options": options,
    }


def _descent(config: Config, *, rate: float, decay: float, share: float = 1.0) -> dict[str, Any]:
    """The options of the search for a start. The paper takes 200 iterations to reconstruct and 201 for the others.

    ``share`` is the searches for each image that comes out.
    """
    return {
        "iterations": {
            "type": "integer",
            "default": config.chain.descents,
            "range": [1, _MOST_DESCENTS],
            "description": "Iterations of the search for the start from which the chain ends at the image.",
            "cost": {"weight": share * _STEP_COST * config.chain.steps},
        },
        "rate": {
            "type": "number",
            "default": rate,
            "range": [0.0, 1.0],
            "description": "Step size of the search, in the paper's units.",
        },
        "adjoint": {
            "type": "string",
            "default": "exact",
            "choices": ["exact", "identity"],
            "description": "How the search is differentiated: through the chain, or, where that hardly turns its "
            "gradient, as if the chain were the identity, several times faster.",
        },
        "decay": {
            "type": "number",
            "default": decay,
            "range": [0.9, 1.0],
            "description": "What each iteration of the search multiplies its step size by.",
        },
    }
