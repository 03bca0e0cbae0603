r"""Where a Hamiltonian chain lives: the reference density p_0 that an annealing starts from, and free flight in it.

The leapfrog of a move (Neal 2011, MCMC using Hamiltonian dynamics, eq. 2.28 to 2.30) needs the force
:math:`\nabla \log p_0(x)` and the drift :math:`x \leftarrow x + \epsilon v`, which walls may fold back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.core.noise import Noise


class Space(Protocol):
    """A normalised density p_0 over rows x ``[rows, ...]`` that can be drawn from."""

    def draw(self, shape: Sequence[int], noise: Noise) -> Tensor:
        """Independent samples of p_0, ``[rows, *shape]``, float32."""

    def log_density(self, x: Tensor) -> Tensor:
        """log p_0 of each row, float64 ``[rows]``."""

    def force(self, x: Tensor) -> Tensor:
        """The gradient of log p_0, like x."""

    def drift(self, q: Tensor, v: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Position and velocity after a free flight of time eps (broadcastable to q): reversible, keeps volume."""


@dataclass(frozen=True)
class Box:
    """The uniform density on [low, high]^D, with walls that reflect.

    A flight that meets a wall is folded back and the velocity across that wall changes its sign, which is the exact
    motion of a free particle in a box: reversible and volume-preserving, so the Metropolis rule needs no correction.
    To reject every move that ends outside would keep the density as well, but of an image's hundreds of pixels many lie
    at black or white, some of them always leave, and then hardly any move would be accepted.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a box needs low < high, got [{self.low}, {self.high}]")

    def log_volume(self, dimensions: int) -> float:
        """D log(high - low), in nats."""
        return dimensions * math.log(self.high - self.low)

    def draw(self, shape: Sequence[int], noise: Noise) -> Tensor:
        return self.low + (self.high - self.low) * noise.uniform(*shape)

    def log_density(self, x: Tensor) -> Tensor:
        density = -self.log_volume(x[0].numel())
        return torch.full((len(x),), density, dtype=torch.float64, device=x.device)

    def force(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def drift(self, q: Tensor, v: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        width = self.high - self.low
        way = (q + eps * v - self.low).remainder(2 * width)  # the box and its mirror image, again and again
        back = way > width
        inside = self.low + torch.where(back, 2 * width - way, way)
        return inside.clamp(self.low, self.high), torch.where(back, -v, v)  # the clamp is against rounding alone


@dataclass(frozen=True)
class Gaussian:
    """The standard normal density, the prior of latent vectors."""

    def draw(self, shape: Sequence[int], noise: Noise) -> Tensor:
        return noise.normal(*shape)

    def log_density(self, x: Tensor) -> Tensor:
        constant = x[0].numel() * math.log(2 * math.pi)
        return -(x.double().square().flatten(1).sum(1) + constant) / 2

    def force(self, x: Tensor) -> Tensor:
        return -x

    def drift(self, q: Tensor, v: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        return q + eps * v, v
