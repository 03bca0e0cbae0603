"""Observed images made worse: where some of the chains of a training start."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_FAINT = 0.1
"""The noise of outlines, over that of the others."""


def corrupted(images: Tensor, std: float, generator: torch.Generator, *, outlined: bool = False) -> Tensor:
    """Images with Gaussian noise, every second one also with a square of half the side at any place full of noise.

    Args:
        images: ``[n, C, size, size]`` in [-1, 1].
        std: the largest standard deviation of the noise; that of each image is uniform below it.
        generator: of all randomness.
        outlined: every fourth image becomes its outline on black first, and gets little noise.

    Returns:
        As many images in [-1, 1].
    """
    n, channels, size, _ = images.shape
    stds = std * torch.rand(n, 1, 1, 1, generator=generator)
    if outlined:
        every_fourth = (torch.arange(n) % 4 == 2)[:, None, None, None]
        images = torch.where(every_fourth, outlines(images, generator), images)
        stds = torch.where(every_fourth, _FAINT * stds, stds)
    noisy = images + stds * torch.randn(images.shape, generator=generator)
    noise = 2 * torch.rand(n, channels, size, size, generator=generator) - 1
    side = size // 2
    corner = torch.randint(size - side + 1, (n, 2, 1), generator=generator)
    hole = _square(corner, side, size) & (torch.arange(n) % 2 == 1)[:, None, None]
    return torch.where(hole[:, None], noise, noisy).clamp(-1, 1)


def outliers(images: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """As many images that are none: of eight three are outlines, thin or thick, two the means of two images, one is
    plain, and two are corrupted ones.

    Args:
        images: ``[n, C, size, size]`` in [-1, 1].
        std: of the corrupted ones, see :func:`corrupted`.
        generator: of all randomness.
    """
    kind = (torch.arange(len(images)) % 8)[:, None, None, None]
    edges = outlines(images, generator)
    edges = torch.where(kind == 0, edges, F.max_pool2d(edges, 3, 1, 1))
    mixed = (images + images.flip(0)) / 2
    plain = (2 * torch.rand(len(images), 1, 1, 1, generator=generator) - 1).expand_as(images)
    faint = _FAINT * torch.rand(len(images), 1, 1, 1, generator=generator)
    clean = torch.where(kind < 3, edges, torch.where(kind < 5, mixed, plain))
    made = (clean + faint * torch.randn(images.shape, generator=generator)).clamp(-1, 1)
    return torch.where(kind < 6, made, corrupted(images, std, generator))


def outlines(images: Tensor, generator: torch.Generator) -> Tensor:
    """Where images change within three pixels, bright on black; of each only a square of any size and place."""
    n, size = len(images), images.shape[-1]
    edges = F.max_pool2d(images, 3, 1, 1) + F.max_pool2d(-images, 3, 1, 1)
    edges = edges * (1 + torch.rand(n, 1, 1, 1, generator=generator)) - 1
    side = (size * (0.4 + 0.6 * torch.rand(n, 1, 1, generator=generator))).ceil()
    corner = (torch.rand(n, 2, 1, generator=generator) * (size - side + 1)).floor()
    return torch.where(_square(corner, side, size)[:, None], edges, -1.0).clamp(-1, 1)


def _square(corner: Tensor, side: Tensor | int, size: int) -> Tensor:
    """True in a square of each corner ``[n, 2, 1]``: ``[n, size, size]``."""
    inside = (torch.arange(size) >= corner) & (torch.arange(size) < corner + side)
    return inside[:, 0, :, None] & inside[:, 1, None, :]
