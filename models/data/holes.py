"""Masks of hidden pixels for inpainting, each row by its own key; training and evaluation draw them alike."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.core.noise import Key, Noise

LEAST, MOST = 0.1, 0.5
"""The share of pixels that a rectangle or a stroke hides lies between these."""

_CORNERS = 6  # of a stroke: five straight pieces
_NUMBERS = 5 + 2 * _CORNERS  # kind, share, height, top, left; then the corners


def holes(n: int, size: int, seed: int) -> Tensor:
    """Draw masks: a centred square for half of the rows, a random rectangle or stroke for a quarter each.

    The square has half the image's side (the paper's hole). Rectangles, of aspect 1:4 to 4:1, and strokes hide 10 to
    50% of the pixels, uniformly. Row k depends on ``seed`` and k alone, not on n.

    Args:
        n: the number of masks.
        size: the side of the square images in pixels, at least 2.
        seed: any integer.

    Returns:
        float32 ``[n, 1, size, size]``, 1 where a pixel is hidden and 0 where it is visible.

    Raises:
        ValueError: the size leaves no room for a hole beside visible pixels.
    """
    if size < 2:
        raise ValueError(f"a hole beside visible pixels needs images of at least 2x2 pixels, got {size}x{size}")
    u = Noise([Key(seed, row, 0) for row in range(n)]).uniform(_NUMBERS)
    masks = centred_square(size).expand(n, size, size).clone()
    rectangle, stroke = (u[:, 0] >= 0.5) & (u[:, 0] < 0.75), u[:, 0] >= 0.75
    masks[rectangle] = _rectangles(u[rectangle, 1:5], size)
    masks[stroke] = _strokes(u[stroke, 1], u[stroke, 5:].reshape(-1, _CORNERS, 2), size)
    return masks[:, None].float()


def centred_square(size: int) -> Tensor:
    """True in a centred square of half the image's side: bool ``[size, size]``."""
    side = size // 2
    start = (size - side) // 2
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[start : start + side, start : start + side] = True
    return mask


def _bounds(size: int) -> tuple[int, int]:
    """The fewest and the most pixels that may be hidden."""
    return math.ceil(LEAST * size**2), math.floor(MOST * size**2)


def _counts(u: Tensor, size: int) -> Tensor:
    """Uniform numbers -> how many pixels to hide."""
    low, high = _bounds(size)
    return low + (u * (high - low + 1)).long()


def _rectangles(u: Tensor, size: int) -> Tensor:
    """Numbers ``[n, 4]`` (share, height, top, left) -> bool ``[n, size, size]``."""
    low, high = _bounds(size)
    count = _counts(u[:, 0], size)
    height = (count.sqrt() * 2 ** (2 * u[:, 1] - 1)).round().long()
    height = height.clamp(min=-(-count // size), max=torch.tensor(size))
    width = (count / height).round().long()
    width = width.clamp(min=-(-low // height), max=(high // height).clamp(max=size))
    line = torch.arange(size)
    inside = []
    for extent, position in ((height, u[:, 2]), (width, u[:, 3])):
        start = (position * (size - extent + 1)).long()
        inside.append((line >= start[:, None]) & (line < (start + extent)[:, None]))
    return inside[0][:, :, None] & inside[1][:, None, :]


def _strokes(u: Tensor, corners: Tensor, size: int) -> Tensor:
    """The pixels nearest to a crooked line, as many as the share asks for: ``[n]``, ``[n, k, 2]`` -> bool.

    So the share is exact, and the brush is as broad as the line's length allows.
    """
    start, end = corners[:, :-1] * size, corners[:, 1:] * size
    along = end - start
    length2 = along.square().sum(-1).clamp(min=1e-12)[..., None, None]
    offset = torch.arange(size) + 0.5 - start[..., None]  # in both directions: [n, pieces, 2, size]
    projected = _grid(offset * along[..., None])
    t = (projected / length2).clamp_(0, 1)
    # |offset - t along|^2, multiplied out so that it takes few passes over [n, pieces, size, size]
    distance2 = (t * length2).sub_(projected, alpha=2).mul_(t).add_(_grid(offset.square())).amin(1).flatten(1)
    masks = torch.empty_like(distance2, dtype=torch.bool)
    for k, count in enumerate(_counts(u, size).tolist()):
        masks[k] = distance2[k] <= distance2[k].kthvalue(count).values
    return masks.reshape(-1, size, size)


def _grid(lines: Tensor) -> Tensor:
    """The sums of a vertical and a horizontal value, ``[..., 2, size]`` -> ``[..., size, size]``."""
    return lines[..., 0, :, None] + lines[..., 1, None, :]
