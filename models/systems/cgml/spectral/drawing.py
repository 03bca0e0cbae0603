r"""Star-shaped surfaces drawn as shaded pictures: parallel rays from a camera, stopped where they reach the surface.

A point p is inside where :math:`|p| < r(p / |p|)`. All rows are looked at along the same rays, so what depends on the
rays alone is made once. Everything is tensors, each row by itself: it runs as a kernel, in any company.
"""

from __future__ import annotations

import math
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surfaces.harmonics import legendre

_RINGS, _SECTORS = 65, 128
_REACH = 2.1
"""Half of the picture's side, in mean radii; what is beyond is cut off."""
_POINTS = 40
"""Of each ray. Between two of them the surface is where a line through both values says."""
_CAMERA, _LIGHT = (0.8, -1.0, 0.6), (-0.3, -0.8, 1.3)
_AMBIENT, _DIFFUSE, _SHINE, _GLOSS = 0.25, 0.6, 0.1, 4
_STEP = 0.2
"""Over which the slope of the surface is measured, in mean radii."""


@final
class Drawing(nn.Module):
    """Coefficients of radial functions of mean radius 1, ``[n, L^2]``, to pictures ``[n, 1, size, size]``.

    Grey from -1 (black) to 1 (white, the background), seen from the front, the right and above; z is up.

    Args:
        degrees: L.
        size: pixels of the side.
    """

    plane: Tensor
    towards: Tensor
    depth: Tensor
    places: Tensor
    lengths: Tensor
    light: Tensor
    halfway: Tensor

    def __init__(self, degrees: int, size: int) -> None:
        super().__init__()
        self.radii = Radii(degrees)
        self._size = size
        right, up, towards = _axes()
        line = (torch.arange(size) + 0.5) / size * 2 - 1
        y, x = torch.meshgrid(-line, line, indexing="ij")
        plane = _REACH * (x[..., None] * right + y[..., None] * up)
        depth = torch.linspace(_REACH, -_REACH, _POINTS)
        points = plane + depth[:, None, None, None] * towards
        light = F.normalize(torch.tensor(_LIGHT), dim=0)
        constants = {
            "plane": plane,
            "towards": towards,
            "depth": depth,
            "places": _places(points),
            "lengths": points.norm(dim=-1),
            "light": light,
            "halfway": F.normalize(light + towards, dim=0),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, coefficients: Tensor) -> Tensor:
        table = self.radii(coefficients)
        n, size = len(table), self._size
        places = self.places.reshape(1, _POINTS, size * size, 2).expand(n, -1, -1, -1)
        outside = self.lengths - _looked_up(table, places).reshape(n, _POINTS, size, size)
        nearest = outside.min(1).values
        points = self.plane + self._depths(outside)[..., None] * self.towards
        shade = self._shaded(self._slopes(table, points))
        covered = (0.5 - nearest * size / (2 * _REACH)).clamp(0, 1)
        return (1 + covered * (2 * shade - 2))[:, None]

    def _depths(self, outside: Tensor) -> Tensor:
        """Where each ray first comes inside; of rays that do not, where they are nearest, ``[n, size, size]``."""
        inside = outside < 0
        hit = inside.any(1)
        first = torch.where(hit, inside.to(torch.uint8).argmax(1), outside.argmin(1))
        before = (first - 1).clamp(min=0)
        here, there = (outside.gather(1, at[:, None])[:, 0] for at in (first, before))
        part = torch.where(hit & (first > 0), here / (here - there).clamp(max=-1e-6), torch.zeros_like(here))
        return self.depth[first] + part * (self.depth[before] - self.depth[first])

    def _slopes(self, table: Tensor, points: Tensor) -> Tensor:
        """Unit vectors outwards, ``[n, size, size, 3]``: the gradient of what is outside."""
        step = _STEP * torch.eye(3, device=points.device)
        around = points[:, None] + torch.cat([step, -step])[:, None, None]
        n, size = len(table), self._size
        radii = _looked_up(table, _places(around).reshape(n, 6, size * size, 2)).reshape(n, 6, size, size)
        outside = around.norm(dim=-1) - radii
        return F.normalize((outside[:, :3] - outside[:, 3:]).permute(0, 2, 3, 1), dim=-1)

    def _shaded(self, slopes: Tensor) -> Tensor:
        """From 0 (black) to 1, by Lambert's law with a highlight (Blinn 1977)."""
        diffuse, shine = ((slopes * towards).sum(-1).clamp(min=0) for towards in (self.light, self.halfway))
        return (_AMBIENT + _DIFFUSE * diffuse + _SHINE * shine**_GLOSS).clamp(0, 1)


@final
class Radii(nn.Module):
    """Coefficients ``[n, L^2]`` to radii on even angles, ``[n, 1, 65, 129]``: polar from 0 to pi, azimuth -pi to pi."""

    table: Tensor
    cosines: Tensor
    sines: Tensor
    plus: Tensor
    minus: Tensor

    def __init__(self, degrees: int) -> None:
        super().__init__()
        polar = np.linspace(0, np.pi, _RINGS)
        table = legendre(degrees, np.cos(polar))
        degree, order = np.meshgrid(np.arange(degrees), np.arange(degrees), indexing="ij")
        known = order <= degree
        middle = degree**2 + degree
        azimuth = np.linspace(-np.pi, np.pi, _SECTORS + 1)
        angles = np.arange(degrees)[:, None] * azimuth
        weights = np.where(order == 0, 1.0, np.sqrt(2.0)) * known
        constants = {
            "table": table * weights[..., None],
            "cosines": np.cos(angles),
            "sines": np.sin(angles),
        }
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(value).to(torch.float32), persistent=False)
        for name, sign in (("plus", 1), ("minus", -1)):
            index = torch.from_numpy(np.where(known, middle + sign * order, 0))
            self.register_buffer(name, index, persistent=False)

    def forward(self, coefficients: Tensor) -> Tensor:
        # Sums in place of matrix products: those of several rows at once are rounded otherwise than those of one.
        even, odd = (
            (self.table * coefficients[:, index, None]).sum(1).transpose(1, 2)[..., None]
            for index in (self.plus, self.minus)
        )
        return (even * self.cosines + odd * self.sines).sum(2)[:, None]


def _places(points: Tensor) -> Tensor:
    """Directions of points ``[..., 3]`` in the table of radii, as ``grid_sample`` wants them, ``[..., 2]``."""
    x, y, z = points.unbind(-1)
    polar = torch.atan2(torch.hypot(x, y), z)
    return torch.stack([torch.atan2(y, x) / math.pi, polar / math.pi * 2 - 1], -1)


def _looked_up(table: Tensor, places: Tensor) -> Tensor:
    return F.grid_sample(table, places, mode="bilinear", padding_mode="border", align_corners=True)


def _axes() -> tuple[Tensor, Tensor, Tensor]:
    """To the right of the picture, up in it, and towards the camera."""
    towards = F.normalize(torch.tensor(_CAMERA), dim=0)
    right = F.normalize(torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]), towards), dim=0)
    return right, torch.linalg.cross(towards, right), towards
