"""What each task gives to H and makes of what G gives: the same in training and in serving."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.data.lab import lightness, to_lab, to_rgb

AB = 110.0
"""What a and b are divided by: the blue of sRGB reaches b = -107.86."""
SENTINEL = -2.0
"""The value of hidden pixels that no pixel has."""


def of_lightness(light: Tensor) -> Tensor:
    """L* (0 to 100) as H takes it, in [-1, 1]."""
    return light / 50 - 1


def of_grey(grey: Tensor) -> Tensor:
    """A grey picture ``[n, 1, H, W]`` in [-1, 1] as H takes it."""
    return of_lightness(lightness(grey))


def of_colour(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images ``[n, 3, H, W]`` as H takes them, and the colours (a, b) / 110 that G should make."""
    lab = to_lab(images)
    return of_lightness(lab[:, :1]), lab[:, 1:] / AB


def coloured(light: Tensor, ab: Tensor) -> Tensor:
    """Images of the lightness that H was given, with the colours that G made."""
    return to_rgb(torch.cat([(light + 1) * 50, ab * AB], 1))


def with_hole(images: Tensor, hidden: Tensor, hole: str) -> Tensor:
    """Images without their hidden pixels (mask 1), as H takes them."""
    if hole == "sentinel":
        return torch.where(hidden > 0, SENTINEL, images)
    return torch.cat([torch.where(hidden > 0, 0.0, images), hidden], 1)


def filled(given: Tensor, made: Tensor) -> Tensor:
    """What G made in the hidden pixels, the image's own bits in the others; ``given``: the image and the mask."""
    images, hidden = given[:, :-1], given[:, -1:]
    return torch.where(hidden > 0, made, images)


def ring(hidden: Tensor) -> Tensor:
    """Hidden pixels with a ring of ceil(5 S / 64) pixels around them, in which a completion must fit."""
    width = -(-5 * hidden.shape[-1] // 64)
    return F.max_pool2d(hidden, 2 * width + 1, 1, width)
