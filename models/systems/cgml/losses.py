"""Losses of cGML, each without a word between host and device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

_BINS = 21
_FLOOR = 1e-3
"""Of the histogram: mixed with so much of a uniform one, so that empty bins have a logarithm and a slope."""

ERRORS: Mapping[str, Callable[[Tensor], Tensor]] = {"l1": torch.abs, "mse": torch.square}
"""The size of a difference, number by number."""


def row_error(made: Tensor, y: Tensor, weights: Tensor, kind: str) -> Tensor:
    """The mean error of each row over its weighted pixels and all channels, ``[n]``.

    Args:
        made: ``[n, C, H, W]``.
        y: what it should be.
        weights: ``[n, 1, H, W]``, at least 0 and not all 0.
        kind: a name of :data:`ERRORS`.
    """
    sizes = (ERRORS[kind](made - y) * weights).sum((1, 2, 3))
    return sizes / (weights.sum((1, 2, 3)) * made.shape[1])


def histogram_divergence(plane: Tensor, weights: Tensor) -> Tensor:
    r"""KL(p | uniform) of the histogram of a plane of colours over all weighted pixels of a batch, ``[]``, in nats.

    Soft, so that it has a gradient: 21 bins with centres evenly spaced from -20/21 to 20/21, of width w = 2/21, and
    linear weights max(0, 1 - |x - c_k| / w). The gradient pushes a pixel to the less filled of its two bins.

    Args:
        plane: ``[n, 1, H, W]`` in [-1, 1].
        weights: ``[n, 1, H, W]``.
    """
    last = (_BINS - 1) / _BINS
    # Between the first and the last centre each pixel lies between two bins and is shared out by its distance.
    place = (plane.clamp(-last, last) + last) * (_BINS / 2)
    low = place.detach().floor().clamp(0, _BINS - 2)
    upper, at = (place - low), low.long().flatten()
    share = weights / weights.sum().clamp_min(1e-6)
    p = place.new_zeros(_BINS).index_add(0, at, ((1 - upper) * share).flatten())
    p = p.index_add(0, at + 1, (upper * share).flatten())
    p = (1 - _FLOOR) * p + _FLOOR / _BINS
    return (p * (p * _BINS).log()).sum()


def expected_lipschitz(sigma: float, jacobian_rows: Tensor) -> float:
    """What noise of deviation sigma changes a linear function on average: sigma sqrt(2 / pi) mean |W_i|."""
    return sigma * math.sqrt(2 / math.pi) * float(jacobian_rows.norm(dim=1).mean())
