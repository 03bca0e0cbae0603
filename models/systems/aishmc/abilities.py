"""What a card says of each task: defaults, limits, and the options of the solvers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from models.systems.aishmc.config import Config
from models.systems.aishmc.settings import Scope, SolverName

FACTORS = (2, 8)
"""By which pictures may be enlarged, if the factor divides the model's size."""
_LIMITS = {"max_n": 16, "max_steps": 0, "trained_steps": 0, "noise": [0.0, 0.0], "proposal": False}
_DEFAULTS = {"n": 1, "steps": 0, "step_size": 1.0, "noise": 0.0, "refine": True}
_OWN_LIMITS: Mapping[str, Mapping[str, Any]] = {
    "generate": {"max_n": 64, "step_size": [1.0, 1.0]},
    "score": {"max_n": 1},
}
_EVIDENCE_CHAINS = 8


def _solving(config: Config) -> dict[str, Any]:
    own = config.solver
    return {
        "temperatures": {
            "type": "integer",
            "default": own.temperatures,
            "range": [1, 2000],
            "description": "Temperatures from the prior to the posterior, at each of which a chain makes one move. "
            "A descent takes as many gradients.",
            "cost": {"weight": 2.0, "factors": ["leapfrogs", "chains"]},
        },
        "leapfrogs": {
            "type": "integer",
            "default": own.leapfrogs,
            "range": [1, 50],
            "description": "Gradients of a move.",
        },
        "sigma": {
            "type": "number",
            "default": 0.0,
            "range": [0.0, 1.0],
            "description": "Standard deviation of the given pixels around the decoder's, in units of the range from -1 "
            f"to 1; smaller holds results closer to what is given. 0: as calibrated, or {own.sigma:.3g} where not.",
        },
        "step_sizes": {
            "type": "string",
            "default": "table",
            "choices": list(get_args(Scope)),
            "description": "One `table` for all chains, measured before, leaves the chain exact; with `row` each chain "
            "adapts its own sizes, for unusual pictures; with `job` all chains of the job adapt one together.",
        },
    }


def _choosing(config: Config) -> dict[str, Any]:
    own = config.solver
    return {
        "solver": {
            "type": "string",
            "default": own.solver,
            "choices": list(get_args(SolverName)),
            "description": "Annealed Hamiltonian Monte Carlo, or gradient descent from one start, or from the best of "
            "`starts`.",
        },
        "chains": {
            "type": "integer",
            "default": own.chains,
            "range": [1, 16],
            "description": "Chains of each result, of which `select` takes one.",
        },
        "select": {
            "type": "string",
            "default": "all" if own.chains == 1 else "best_obs",
            "choices": ["all", "best_obs", "best_weight", "resample"],
            "description": "`all`: one chain for each of `n` results. Else each result is one of its `chains`: the one "
            "nearest to the given pixels, the one of greatest weight, or one drawn by the weights.",
        },
        "starts": {
            "type": "integer",
            "default": own.starts,
            "range": [16, 8192],
            "description": "Draws from which `gd_multi` takes the best to descend from.",
        },
        "polish": {
            "type": "integer",
            "default": own.polish,
            "range": [0, 2000],
            "description": "Steps of descent after the last move of annealed HMC, one gradient each: to the picture "
            "nearby that fits best what is given, in place of a sample of the posterior.",
            "cost": {"weight": 2.0, "factors": ["chains"]},
        },
        "target": {
            "type": "string",
            "default": own.target,
            "choices": ["posterior", "tempered_paper"],
            "description": "`posterior` keeps the prior of the latents; `tempered_paper` lets it vanish, as the "
            "authors' code does, and has a sigma of its own.",
        },
    }


def _factor(config: Config) -> dict[str, Any]:
    divisors = [k for k in range(FACTORS[0], FACTORS[1] + 1) if config.image_size % k == 0]
    return {
        "factor": {
            "type": "integer",
            "default": divisors[0],
            "range": [divisors[0], divisors[-1]],
            "description": "How many times the picture is enlarged; it divides the model's size. The picture that is "
            "sent has the model's size divided by it.",
        }
    }


def abilities(config: Config) -> dict[str, Any]:
    """The part ``tasks`` of a card: colours for models that have them, factors for sizes that can be divided."""
    solved = {**_choosing(config), **_solving(config)}
    options: dict[str, Mapping[str, Any]] = {
        "generate": {},
        "inpaint": solved,
        "reconstruct": solved,
        "score": {
            **_solving(config),
            "chains": {
                "type": "integer",
                "default": _EVIDENCE_CHAINS,
                "range": [2, 64],
                "description": "Chains whose weights are averaged: more bring the bound closer.",
            },
        },
    }
    if any(config.image_size % k == 0 for k in range(FACTORS[0], FACTORS[1] + 1)):
        options["upscale"] = {**_factor(config), **solved}
    if config.channels == 3:
        options["colorize"] = solved
    return {name: _ability(name, own) for name, own in options.items()}


def _ability(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """``step_size`` multiplies all step sizes of a solver."""
    limits = {**_LIMITS, "step_size": [0.0, 4.0], **_OWN_LIMITS.get(name, {})}
    return {"defaults": _DEFAULTS, "limits": limits, "options": dict(options)}
