"""What the tasks share: the numbers of a chain, and the chain through several sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.core.loop import Rows

if TYPE_CHECKING:
    from models.systems.cfebm.generation.model import EnergyModel
    from models.systems.cfebm.translation.model import CFEBMTranslation


FREE = 50.0
"""Chains are clamped only at the end of a size, and trained ones reach 5 on the way; beyond this they have diverged."""


def chain_numbers(
    model: EnergyModel | CFEBMTranslation, n: int, s0: float, step_size: float, done: int, total: int
) -> Rows:
    """The numbers of n rows of a chain of ``total`` steps, of which ``done`` are over; see ``kernels.shortrun``.

    ``step_size`` multiplies the trained one; ``s0`` is the noise at the start of the chain, a standard deviation, and
    that of the end is never greater: a chain that starts without noise has none.
    """
    sampler = model.config.sampler
    one = torch.ones(n, 1, 1, 1, device=model.device)
    numbers = {"lr": step_size * sampler.lr, "s0": s0, "s1": min(sampler.s1, s0), "k0": done, "total": max(1, total)}
    return {name: one * number for name, number in numbers.items()}


def split_steps(steps: int, parts: int) -> list[int]:
    """Steps of each size, coarse first: equal shares, what is left over to the finest ones."""
    share, left = divmod(steps, parts)
    return [share + (part >= parts - left) for part in range(parts)]
