r"""Gradient descent on a latent, one gradient a step: what annealed chains are compared with.

It descends the misfit of eq. 1 of Fang and Schwing (2019), :math:`E = \|m \circ (A G(z) - y)\|^2 = -2 s f`, whose
optimiser, rate and length the paper does not print: plain steps, or those of Adam (Kingma and Ba 2015).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.core.loop import Rows

_B1, _B2, _TINY = 0.9, 0.999, 1e-8


def descended(rows: Rows, t: Tensor) -> Rows:
    """Step t of each row: ``x`` moved by the carried gradient, and Adam's moments after it.

    State of a row: ``x`` ``[...]`` and ``g``, the gradient of f there; ``s`` variance, ``rate`` step size, float64
    ``[]``; ``adam`` bool ``[]``, False for plain steps; ``m1`` and ``m2`` like x; ``rescale`` bool ``[]``, whether x is
    brought back to the norm sqrt(d), for decoders that do not see it.
    """
    x = rows["x"]
    gradient = -2 * _beside(rows["s"], x) * rows["g"]
    m1 = torch.lerp(gradient, rows["m1"], _B1)
    m2 = torch.lerp(gradient.square(), rows["m2"], _B2)
    count = t.double() + 1
    mean, square = m1 / _beside(1 - _B1**count, x), m2 / _beside(1 - _B2**count, x)
    way = torch.where(_beside(rows["adam"], x) > 0, mean / (square.sqrt() + _TINY), gradient)
    moved = x - _beside(rows["rate"], x) * way
    norm = moved.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.dim() - 1))
    level = moved * (math.sqrt(x[0].numel()) / norm)
    return {"x": torch.where(_beside(rows["rescale"], x) > 0, level, moved), "m1": m1, "m2": m2}


def _beside(number: Tensor, x: Tensor) -> Tensor:
    return number.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))
