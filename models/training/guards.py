"""Why an iteration must be undone: checks that systems share, each with the system's own limit.

A check gives the reason in words, or None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

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
    if math.isnan(value):
        return f"{name} is not finite"
    return f"{trouble} ({name} {value:.3g} > {limit:g})"


def runaway(means: Iterable[float], limit: float | None) -> str | None:
    """The scale of f, which maximum likelihood leaves free: means of f beyond a limit."""
    return above("the scale of f runs away", "|mean f|", max(map(abs, means)), limit)


def first(*reasons: str | None) -> str | None:
    """The first reason that there is."""
    return next((reason for reason in reasons if reason), None)


@final
@dataclass(frozen=True)
class Limit:
    """A bound of some figures of an iteration: for the device, which holds an update back, and for the host, which is
    told why.

    Args:
        trouble: what is wrong beyond it.
        name: what is bounded.
        figures: the names of those whose greatest absolute value is bounded.
        most: how much it may be.
    """

    trouble: str
    name: str
    figures: tuple[str, ...]
    most: float

    def kept(self, figures: Mapping[str, Tensor]) -> Tensor:
        """Whether it is, bool ``[]``, where the figures are."""
        return torch.stack([figures[name].double() for name in self.figures]).abs().amax() <= self.most

    def reason(self, metrics: Mapping[str, float]) -> str | None:
        """Why it is not."""
        return above(self.trouble, self.name, max(abs(metrics[name]) for name in self.figures), self.most)


def allows(limits: Sequence[Limit], figures: Mapping[str, Tensor]) -> Tensor:
    """Whether an update with these figures may be applied, bool ``[]``: all are finite and in bounds."""
    finite = torch.stack([value.double() for value in figures.values()]).isfinite()
    return torch.stack([finite.all(), *(limit.kept(figures) for limit in limits)]).all()


def objection(limits: Sequence[Limit], metrics: Mapping[str, float]) -> str | None:
    """Why it may not, from the same figures as the host reads them."""
    return first(not_finite(metrics), *(limit.reason(metrics) for limit in limits))
