"""Observed images made worse: where some of the chains of a training start."""

from __future__ import annotations

import torch
from torch import Tensor


def corrupted(images: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Images with Gaussian noise, every second one also with a square of half the side at any place full of noise.

    Args:
        images: ``[n, C, size, size]`` in [-1, 1].
        std: the largest standard deviation of the noise; that of each image is uniform below it.
        generator: of all randomness.

    Returns:
        As many images in [-1, 1].
    """
    n, channels, size, _ = images.shape
    stds = std * torch.rand(n, 1, 1, 1, generator=generator)
    noisy = images + stds * torch.randn(images.shape, generator=generator)
    noise = 2 * torch.rand(n, channels, size, size, generator=generator) - 1
    side = size // 2
    corner = torch.randint(size - side + 1, (n, 2, 1), generator=generator)
    inside = (torch.arange(size) >= corner) & (torch.arange(size) < corner + side)
    hole = inside[:, 0, :, None] & inside[:, 1, None, :] & (torch.arange(n) % 2 == 1)[:, None, None]
    return torch.where(hole[:, None], noise, noisy).clamp(-1, 1)
