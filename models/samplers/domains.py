r"""Where a latent vector lives: on the unit sphere, or in a box. What a step must know of it.

A step is a vector v at a point z. Its tangent part is what it can use, a retraction brings z + v back. On the sphere

.. math:: \mathrm{tangent}(z, v) = v - (v \cdot z) z, \quad \mathrm{retract}(u) = u / |u|

as Algorithm 1 and eq. 4 of the cGML paper need them. All of it is row by row, ``[n, d]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.noise import Noise

DomainName: TypeAlias = Literal["sphere", "box"]

_LEAST = 1e-12


class Domain(Protocol):
    """A set of latent vectors."""

    @property
    def scale(self) -> float:
        """How far its points lie from the middle: what steps are measured by."""

    def start(self, noise: Noise, d: int) -> Tensor:
        """A random point for each row, ``[n, d]``."""

    def tangent(self, z: Tensor, v: Tensor) -> Tensor:
        """The part of a vector along which ``z`` can move."""

    def retract(self, moved: Tensor) -> Tensor:
        """A point that was moved, back in the domain."""

    def kick(self, z: Tensor, noise: Noise) -> Tensor:
        """A random direction of length 1 at ``z``."""


@final
class Sphere:
    """The unit sphere in d dimensions, where z = g / |g| of a normal vector g is uniform."""

    scale = 1.0

    def start(self, noise: Noise, d: int) -> Tensor:
        return F.normalize(noise.normal(d), dim=1)

    def tangent(self, z: Tensor, v: Tensor) -> Tensor:
        """v - (v . z) z: two opposite moves of one angle leave a mean that points inwards, which is no direction."""
        return v - (v * z).sum(1, keepdim=True) * z

    def retract(self, moved: Tensor) -> Tensor:
        return F.normalize(moved, dim=1)

    def kick(self, z: Tensor, noise: Noise) -> Tensor:
        return F.normalize(self.tangent(z, noise.normal(z.shape[1])), dim=1, eps=_LEAST)


@final
class Box:
    """All vectors whose numbers lie between -bound and bound.

    Args:
        bound: above 0.
    """

    def __init__(self, bound: float) -> None:
        self.scale = bound

    def start(self, noise: Noise, d: int) -> Tensor:
        return (2 * noise.uniform(d) - 1) * self.scale

    def tangent(self, z: Tensor, v: Tensor) -> Tensor:
        del z
        return v

    def retract(self, moved: Tensor) -> Tensor:
        return moved.clamp(-self.scale, self.scale)

    def kick(self, z: Tensor, noise: Noise) -> Tensor:
        return F.normalize(torch.where(noise.uniform(z.shape[1]) < 0.5, -1.0, 1.0), dim=1)


def domain_of(name: DomainName, bound: float) -> Domain:
    """The domain of this name; only a box has a bound."""
    known: Mapping[DomainName, Domain] = {"sphere": Sphere(), "box": Box(bound)}
    return known[name]
