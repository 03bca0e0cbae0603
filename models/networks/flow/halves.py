"""Ways to halve images, and to put the halves together again.

Halves lie beside one another as channels: ``[n, 2 c, h, w]``, the first c of which are the half that is transformed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def checkerboard(x: Tensor) -> Tensor:
    """``[n, C, H, W] -> [n, 2C, H, W/2]``: the black squares of a chessboard, then the white ones."""
    top_left, top_right, left, right = _quarters(x)
    black, white = torch.stack([top_left, right], 3), torch.stack([top_right, left], 3)
    return torch.cat([black.flatten(2, 3), white.flatten(2, 3)], 1)


def uncheckered(halves: Tensor) -> Tensor:
    """What :func:`checkerboard` was given."""
    black, white = (half.unflatten(2, (-1, 2)) for half in halves.chunk(2, 1))
    rows = [
        torch.stack([black[..., 0, :], white[..., 0, :]], -1),
        torch.stack([white[..., 1, :], black[..., 1, :]], -1),
    ]
    return torch.stack([row.flatten(-2) for row in rows], 3).flatten(2, 3)


def squeeze(x: Tensor) -> Tensor:
    """``[n, C, H, W] -> [n, 4C, H/2, W/2]``: each 2x2 pixels as channels, all colours of a pixel together."""
    n, channels, height, width = x.shape
    pixels = x.reshape(n, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return pixels.reshape(n, 4 * channels, height // 2, width // 2)


def unsqueeze(x: Tensor) -> Tensor:
    """What :func:`squeeze` was given."""
    n, channels, height, width = x.shape
    pixels = x.reshape(n, 2, 2, channels // 4, height, width).permute(0, 3, 4, 1, 5, 2)
    return pixels.reshape(n, channels // 4, 2 * height, 2 * width)


def swapped(halves: Tensor) -> Tensor:
    """The other half first."""
    first, second = halves.chunk(2, 1)
    return torch.cat([second, first], 1)


def _quarters(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each 2x2 pixels the top left, top right, bottom left and bottom right one."""
    return x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
