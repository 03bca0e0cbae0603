"""The losses of a Wasserstein GAN with gradient penalty (Gulrajani and others 2017), as progressive GANs take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

Judge: TypeAlias = Callable[[Tensor], Tensor]
"""Images ``[n, ...]`` -> the critic's number of each, ``[n]``."""


class CriticTerms(NamedTuple):
    """The parts of the critic's loss."""

    real: Tensor
    fake: Tensor
    penalty: Tensor
    drift: Tensor

    @property
    def distance(self) -> Tensor:
        """E D(x) - E D(G(z)), the estimate of the Wasserstein distance."""
        return self.real - self.fake


def critic_terms(judge: Judge, real: Tensor, fake: Tensor, u: Tensor) -> CriticTerms:
    """E D(x), E D(G(z)), E (|grad D(u x + (1 - u) G(z))| - 1)^2 and E D(x)^2.

    Args:
        judge: D; the mixed images are a batch of their own to it.
        real: x ``[n, ...]``.
        fake: G(z), like x, without a gradient to G.
        u: uniform in [0, 1), one number an image, broadcastable to x.
    """
    mixed = (u * real + (1 - u) * fake).requires_grad_(True)
    (slope,) = torch.autograd.grad(judge(mixed).sum(), mixed, create_graph=True)
    values = judge(real)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return CriticTerms(values.mean(), judge(fake).mean(), penalty, values.square().mean())
