"""What is looked at before an update is applied: a divergence comes from one iteration to the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.systems.cfebm.config import GuardConfig


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
    size = max(abs(metrics["f_data"]), abs(metrics["f_chain"]))
    if not torch.isfinite(torch.tensor(list(metrics.values()))).all():
        return "a number is not finite"
    if size > guards.value:
        return f"the scale of f runs away (|mean f| {size:.3g} > {guards.value:g})"
    if abs(metrics["gap"]) > guards.gap:
        return f"chain and data are too far apart (gap {metrics['gap']:.3g}, at most {guards.gap:g})"
    if metrics["jump"] > guards.gradient:
        return f"the gradient jumped (norm {metrics['gradient']:.3g}, {metrics['jump']:.3g} times its median)"
    if metrics["strained"] >= guards.patience:
        return f"chain ends had another contrast than the data for {guards.patience} iterations"
    return None


def _clamped(images: Tensor) -> float:
    return float((images.abs() > 0.99).float().mean())
