"""Small pieces that every trainer needs: averages of weights, rates by iteration, optimizer state as plain tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def mixed_precision(device: torch.device, precision: str) -> torch.autocast:
    """Where networks are evaluated in training: ``bf16`` computes convolutions in bfloat16, ``fp32`` nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


def ema_update(average: nn.Module, live: nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * live, for parameters; buffers are copied. decay 0 copies all."""
    with torch.no_grad():
        for a, p in zip(average.parameters(), live.parameters(), strict=True):
            a.lerp_(p, 1 - decay)
        for old, new in zip(average.buffers(), live.buffers(), strict=True):
            old.copy_(new)


def scheduled_lr(lr: float, schedule: str, final: float, iteration: int, iterations: int) -> float:
    """The rate at an iteration, as a function of it alone (so that nothing about it needs saving).

    ``cosine`` and ``exponential`` fall from ``lr`` to ``final * lr`` over the whole training.
    """
    done = min(iteration / max(iterations, 1), 1.0)
    if schedule == "cosine":
        return lr * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)
    if schedule == "exponential":
        return lr * final**done
    return lr


def adam_state(prefix: str, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """The moments and step counts of Adam as named tensors, so that they need no pickle."""
    moments = optimizer.state_dict()["state"]
    return {f"{prefix}.{i}.{k}": v for i, per_param in moments.items() for k, v in per_param.items()}


def load_adam_state(prefix: str, optimizer: torch.optim.Adam, tensors: Mapping[str, Tensor]) -> None:
    """Restore what :func:`adam_state` gave; a state without moments (before the first step) clears them."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(f"{prefix}."):
            _, index, key = name.rsplit(".", 2)
            moments.setdefault(int(index), {})[key] = value.clone()
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
