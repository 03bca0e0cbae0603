"""Small random changes of images that leave their meaning: shifts and mirror images, each row by its own key."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.noise import Noise

_WHITE = 1.0


def jitter(images: Tensor, noise: Noise, *, pixels: int, by: Literal["resize", "pad"], mirror: bool) -> Tensor:
    """Shift each image by a random offset and mirror half of them.

    Args:
        images: ``[n, C, H, W]`` in [-1, 1]; images that belong together are joined as channels.
        noise: one key a row.
        pixels: the images are made larger by so many pixels, then cropped to their size at a random place.
        by: ``resize`` enlarges them (bicubic); ``pad`` lays a white margin around them.
        mirror: flip half of the rows left to right.
    """
    n, _, height, width = images.shape
    u = noise.uniform(3)
    if pixels:
        grown = _enlarge(images, pixels) if by == "resize" else _margin(images, pixels)
        top, left = ((u[:, k] * (pixels + 1)).long() for k in (0, 1))
        at = torch.arange(max(n, height, width), device=images.device)
        rows, columns = top[:, None] + at[:height], left[:, None] + at[:width]
        images = grown[at[:n, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if mirror:
        flip = (u[:, 2] < 0.5)[:, None, None, None]
        images = torch.where(flip, images.flip(3), images)
    return images.contiguous()


def _enlarge(images: Tensor, pixels: int) -> Tensor:
    height, width = images.shape[2:]
    grown = F.interpolate(images, (height + pixels, width + pixels), mode="bicubic", antialias=True)
    return grown.clamp(-1, 1)


def _margin(images: Tensor, pixels: int) -> Tensor:
    before = pixels // 2
    return F.pad(images, (before, pixels - before, before, pixels - before), value=_WHITE)
