"""What teaches an energy without a chain: straight paths between noise and images, and what is no image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

Paths: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Observed images, noise, and places between them, as :func:`mismatch` takes them."""

_MARGIN = 0.1
"""Of a ranking, over the number of pixels: f of an energy that was matched spans about as much as there are."""


def mismatch(f: Callable[[Tensor], Tensor], images: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    r"""How far the gradient of f is from the velocity of straight paths, a mean over images and pixels.

    .. math:: |\nabla f(x_t) - (x - z)|^2, \quad x_t = (1 - t) z + t x

    with V = -f, of "Energy Matching" (Balcerak and others, 2025), first phase, with pairs (z, x) at random. Where it is
    smallest, the gradient at a point is the mean velocity of the paths through it, so a chain of n steps of size 1/n
    carries noise to images.

    Args:
        f: images ``[n, C, H, W]`` -> values ``[n]``, differentiable by its weights through its gradient.
        images: observed ones, x.
        noise: where the paths begin, z.
        t: places on the paths, ``[n, 1, 1, 1]`` in [0, 1].
    """
    at = torch.lerp(noise, images, t).requires_grad_(True)
    (gradient,) = torch.autograd.grad(f(at).sum(), at, create_graph=True)
    return (gradient - (images - noise)).square().mean()


def misranking(f_outliers: Tensor, f_data: Tensor, pixels: int) -> Tensor:
    """softplus((f(o) - f(x)) / m + 1), the mean over pairs of an outlier o and an observed image x; m = pixels / 10."""
    return F.softplus((f_outliers - f_data) / (_MARGIN * pixels) + 1).mean()
