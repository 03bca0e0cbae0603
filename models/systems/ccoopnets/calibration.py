"""What the values of real images are, against which the value of one image is set.

f is defined up to an unknown number for each condition: both terms of its learning gradient share the condition, so it
cancels. A value by itself therefore says little, and values compare only within one condition.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.core.loop import Kernel
from models.data.images import to_float
from models.systems.calibration import CHUNK, values


def values_of_pairs(evaluate: Kernel, images: Tensor, conditions: Tensor, rho: float, device: torch.device) -> Tensor:
    """f of images with their conditions, ``[n]``.

    Args:
        evaluate: adds ``f`` to rows.
        images: uint8 ``[n, C, H, W]``.
        conditions: as the networks take them, ``[n, ...]``.
        rho: of the reference.
        device: where the model is.
    """
    pairs = zip(images.split(CHUNK), conditions.split(CHUNK), strict=True)
    rows = ({"y": to_float(y), "c": c, "rho": torch.full((len(y), 1, 1, 1), rho)} for y, c in pairs)
    return values(evaluate, rows, device)
