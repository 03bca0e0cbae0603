r"""From pixels to the whole real line and back: the coordinates in which a flow of images works.

A pixel x in [-1, 1] and a dequantisation u in [0, 1) give

.. math:: v = \frac{255 (x + 1) / 2 + u}{256}, \quad y = \lambda (2 v - 1), \quad l = \mathrm{logit} \frac{1 + y}{2}

with lambda = 0.9. Densities of images are densities in v; in x they are greater by ``D log(255 / 512)``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LAMBDA = 0.9
MIDDLE = 0.5
"""The u of the deterministic map: ``decode(encode(x, MIDDLE)[0]) = x``."""


def encode(x: Tensor, u: Tensor | float) -> tuple[Tensor, Tensor]:
    """l like x, and log |dl/dv| summed over each row, ``[n]``.

    Args:
        x: ``[n, ...]`` in [-1, 1].
        u: of each element, in [0, 1).
    """
    y = LAMBDA * (2 * (255 * (x + 1) / 2 + u) / 256 - 1)
    logits = torch.log1p(y) - torch.log1p(-y)
    slope = F.softplus(logits) + F.softplus(-logits) + math.log(LAMBDA)
    return logits, slope.flatten(1).sum(1)


def decode(logits: Tensor) -> Tensor:
    """x of each l at u = 1/2, not clipped: a flow may leave [-1, 1] by up to 0.116.

    Without the division by lambda (as in the authors' code) proposals would lack a tenth of the data's contrast.
    """
    v = ((2 * torch.sigmoid(logits) - 1) / LAMBDA + 1) / 2
    return 2 * (256 * v - MIDDLE) / 255 - 1


def decode_as_published(logits: Tensor) -> Tensor:
    """The authors' decoding, ``2 sigmoid(l) - 1``, which weights that they have published were trained with."""
    return 2 * torch.sigmoid(logits) - 1
