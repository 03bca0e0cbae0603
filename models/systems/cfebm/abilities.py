"""What a card says of each task: defaults and limits."""

from __future__ import annotations

from typing import Any

from models.core.rows import MAX_STEPS
from models.systems.cfebm.config import Config

_MOST_NOISE = 0.03
"""More than this, a standard deviation on the scale of -1 to 1, leaves grain that the chain does not take away."""


def ability(config: Config, name: str, steps: int) -> dict[str, Any]:
    """A task's part of a card; ``noise`` is that of the first step, ``step_size`` a multiple of the trained one."""
    return {
        "defaults": {"n": 1, "steps": steps, "step_size": 1.0, "noise": config.sampler.s0, "refine": True},
        "limits": {
            "max_n": 1 if name == "score" else 64,
            "max_steps": MAX_STEPS,
            "trained_steps": config.steps,
            "step_size": [0.0, 2.0],
            "noise": [0.0, max(_MOST_NOISE, config.sampler.s0)],
            "proposal": False,
            "chance": config.task == "generate",
        },
    }
