"""What is looked at before an update is applied: a divergence comes from one iteration to the next.

All is measured and decided on the device; the host reads it later.
"""

from __future__ import annotations

from torch import Tensor

from models.systems.cfebm.config import GuardConfig
from models.training.guards import Limit


def measures(data: Tensor, chain: Tensor) -> dict[str, Tensor]:
    """Mean and standard deviation of observed images and of chain ends, and the share of the chain's clamped pixels."""
    return {
        "chain_mean": chain.mean(),
        "chain_std": chain.std(),
        "data_mean": data.mean(),
        "data_std": data.std(),
        "clamped": _clamped(chain),
    }


def strained(guards: GuardConfig, data: Tensor, found: dict[str, Tensor]) -> Tensor:
    """Whether chain ends have another contrast than the data, or are clamped in many more pixels, bool ``[]``.

    Args:
        guards: the limits.
        data: observed images.
        found: the :func:`measures` of them and of the chain ends.
    """
    low, high = guards.std_ratio
    ratio = (found["chain_std"] / found["data_std"].clamp_min(1e-6)).double()
    clamped = found["clamped"].double() > _clamped(data).double() + guards.clamped
    return ~((ratio >= low) & (ratio <= high)) | clamped


def limits(guards: GuardConfig) -> list[Limit]:
    """Beyond which an update must not be applied."""
    return [
        Limit("the scale of f runs away", "|mean f|", ("f_data", "f_chain"), guards.value),
        Limit("chain and data are too far apart", "|gap|", ("gap",), guards.gap),
        Limit("the gradient jumped", "norm over its median", ("jump",), guards.gradient),
        Limit("chain ends have another contrast than the data", "iterations", ("strained",), guards.patience - 1),
    ]


def _clamped(images: Tensor) -> Tensor:
    return (images.abs() > 0.99).float().mean()
