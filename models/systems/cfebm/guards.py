"""What is looked at before an update is applied: a divergence comes from one iteration to the next.

All is measured and decided on the device; the host reads it later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from models.systems.cfebm.config import GuardConfig
from models.training.guards import Limit, allows, objection
from models.training.remembered import Remembered

_HISTORY = 200
_ENOUGH = 50
"""Gradient norms that are remembered for their median, and how many make one."""


@final
class Judge:
    """Whether updates may be applied, and what is remembered of earlier ones for that.

    Args:
        guards: the limits.
        device: where the figures are.

    Attributes:
        norms: of the gradients of applied updates.
        strained: for how many updates in a row chain ends have been another kind of image than the data.
    """

    def __init__(self, guards: GuardConfig, device: torch.device) -> None:
        self._guards, self._limits = guards, limits(guards)
        self.norms = Remembered(_HISTORY, device, _ENOUGH)
        self.strained = torch.zeros((), dtype=torch.int64, device=device)

    def figures(
        self, data: Tensor, chain: Tensor, f_data: Tensor, f_chain: Tensor, gradient: Tensor
    ) -> dict[str, Tensor]:
        """What an update is judged by: of images ``[n, C, H, W]``, of the means of f, and of the gradient's norm."""
        found, usual = measures(data, chain), self.norms.median()
        return found | {
            "f_data": f_data,
            "f_chain": f_chain,
            "gap": f_data - f_chain,
            "gradient": gradient,
            "jump": torch.where(usual.isinf(), 1.0, gradient.double() / usual),
            "strained": torch.where(strained(self._guards, data, found), self.strained + 1, 0),
        }

    def allows(self, figures: Mapping[str, Tensor | float]) -> Tensor:
        """Whether an update with these figures may be applied, bool ``[]``; decided on the device."""
        return allows(self._limits, {name: value for name, value in figures.items() if isinstance(value, Tensor)})

    def objection(self, metrics: Mapping[str, float]) -> str | None:
        """Why it must not be applied, as the host reads the figures; None if it may."""
        if math.isnan(metrics["chain_mean"]):
            return "a chain diverged, its end is not finite; lower sampler.lr or sampler.s0"
        return objection(self._limits, metrics)

    def note(self, figures: Mapping[str, Tensor], allowed: Tensor) -> None:
        """Remember an update, if it was applied."""
        self.norms.add(figures["gradient"], allowed)
        self.strained.copy_(torch.where(allowed, figures["strained"], self.strained))


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
