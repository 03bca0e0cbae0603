"""What is looked at before an update is applied: a divergence comes from one iteration to the next."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from models.systems.cfebm.config import GuardConfig
from models.training.guards import above, first, not_finite, runaway


def measures(data: Tensor, chain: Tensor) -> dict[str, float]:
    """Mean and standard deviation of observed images and of chain ends, and the share of the chain's clamped pixels."""
    return {
        "chain_mean": float(chain.mean()),
        "chain_std": float(chain.std()),
        "data_mean": float(data.mean()),
        "data_std": float(data.std()),
        "clamped": _clamped(chain),
    }


def strained(guards: GuardConfig, data: Tensor, chain: Tensor) -> bool:
    """Whether chain ends have another contrast than the data, or are clamped in many more pixels."""
    low, high = guards.std_ratio
    ratio = float(chain.std() / data.std().clamp_min(1e-6))
    return not low <= ratio <= high or _clamped(chain) > _clamped(data) + guards.clamped


def harm(guards: GuardConfig, metrics: Mapping[str, float]) -> str | None:
    """Why an update with these metrics must not be applied; None if it may."""
    return first(
        not_finite(metrics),
        runaway((metrics["f_data"], metrics["f_chain"]), guards.value),
        above("chain and data are too far apart", "|gap|", abs(metrics["gap"]), guards.gap),
        above("the gradient jumped", "norm over its median", metrics["jump"], guards.gradient),
        above("chain ends have another contrast than the data", "iterations", metrics["strained"], guards.patience - 1),
    )


def _clamped(images: Tensor) -> float:
    return float((images.abs() > 0.99).float().mean())
