"""Whether a conditional value tells conditions apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def swap_margins(value: Callable[[Tensor, Tensor], Tensor], images: Tensor, conditions: Tensor) -> Tensor:
    r"""How much better pairs of images fit their own conditions than each other's.

    .. math:: f(Y_1, C_1) + f(Y_2, C_2) - f(Y_1, C_2) - f(Y_2, C_1)

    A conditional energy-based model leaves f open up to a number for each condition, so that the greatest f does not
    name the right one; in this sum the numbers cancel. Positive where the model uses the condition.

    Args:
        value: (images, conditions) -> f of each row.
        images: ``[2, n, ...]``, the first and the second image of each pair.
        conditions: ``[2, n, ...]``, theirs.

    Returns:
        ``[n]``.
    """
    (y1, y2), (c1, c2) = images, conditions
    return value(y1, c1) + value(y2, c2) - value(y1, c2) - value(y2, c1)


def different_pairs(labels: Tensor, n: int, seed: int) -> Tensor:
    """``[2, n]`` places in ``labels``: random pairs of different labels, the same for the same seed.

    Raises:
        ValueError: there are no two different labels.
    """
    if len(labels.unique()) < 2:
        raise ValueError("pairs of different labels need at least two labels")
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.empty(2, 0, dtype=torch.int64)
    while pairs.shape[1] < n:
        drawn = torch.randint(len(labels), (2, n), generator=generator)
        pairs = torch.cat([pairs, drawn[:, labels[drawn[0]] != labels[drawn[1]]]], 1)
    return pairs[:, :n]
