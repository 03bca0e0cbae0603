r"""Step sizes of annealed moves: one table for all chains, found by a pilot, or a size that each row adapts by itself.

What a move needs depends on the temperature b and the variance s through the precision :math:`\beta = b / s` alone. So
a table over log10 beta serves every sigma, number of temperatures and schedule.

A frozen table leaves the kernel exact. The rule of the authors' code follows a row's own acceptance (eq. 2 of Fang and
Schwing 2019), which depends on where the row is: it is biased a little, and no evidence is told of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.core.loop import Rows

KNOTS = np.arange(-2.0, 5.01, 0.25)
"""log10 beta of the entries of a table."""

TARGET = 0.65
"""The acceptance that the rule aims at."""

LEAST, MOST = 1e-4, 0.5
_MEMORY = 0.9


def table(precisions: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """A table from sizes that a pilot found at ascending precisions b / s.

    Below them it is level, and above them sizes fall by the root of the precision, as those of a narrow Gaussian do.
    """
    places = np.log10(precisions)
    narrower = np.clip(KNOTS - places[-1], 0, None) * np.log(10) / 2
    found = np.exp(np.interp(KNOTS, places, np.log(sizes)) - narrower)
    return [float(f"{size:.4g}") for size in found]


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers."""
    return float(np.exp(np.mean(np.log(values))))


def looked_up(rows: Rows, b: Tensor) -> Tensor:
    """eps of each row from its ``table`` float64 ``[knots]`` at b / ``s``, float64 ``[rows]``; linear in the logs."""
    place = ((b / rows["s"]).clamp(min=1e-30).log10() - KNOTS[0]) / (KNOTS[1] - KNOTS[0])
    place = place.clamp(0, len(KNOTS) - 1 - 1e-9)
    left = place.long()
    logs = rows["table"].log()
    low, high = (logs.gather(1, (left + k)[:, None])[:, 0] for k in (0, 1))
    return torch.lerp(low, high, place - left).exp()


def adapted(own: Tensor, average: Tensor, p: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """A row's own size and average acceptance after a move.

    The size goes up by the factor 1 + kappa where the *old* average is above the target, else down by 1 - kappa.

    Args:
        own: eps, ``[rows]``.
        average: of the acceptance, which starts at the target.
        p: acceptance probability of the move.
        kappa: .02 in the authors' code, .05 for runs of less than 500 temperatures.
    """
    own = (own * torch.where(average > TARGET, 1 + kappa, 1 - kappa)).clamp(LEAST, MOST)
    return own, _MEMORY * average + (1 - _MEMORY) * p
