"""Why an iteration must be undone: checks that systems share, each with the system's own limit.

A check gives the reason in words, or None. Chains that diverge raise :class:`models.core.loop.RowsError` themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def not_finite(numbers: Mapping[str, float | Tensor]) -> str | None:
    """A number, or one of a tensor, is NaN or infinite."""
    broken = (name for name, value in numbers.items() if not torch.as_tensor(value).isfinite().all())
    return next((f"{name} is not finite" for name in broken), None)


def above(trouble: str, name: str, value: float, limit: float | None) -> str | None:
    """A number is beyond its limit; without a limit it never is."""
    if limit is None or value <= limit:
        return None
    return f"{trouble} ({name} {value:.3g} > {limit:g})"


def runaway(means: Iterable[float], limit: float | None) -> str | None:
    """The scale of f, which maximum likelihood leaves free: means of f beyond a limit."""
    return above("the scale of f runs away", "|mean f|", max(map(abs, means)), limit)


def first(*reasons: str | None) -> str | None:
    """The first reason that there is."""
    return next((reason for reason in reasons if reason), None)
