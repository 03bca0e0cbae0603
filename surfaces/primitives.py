r"""Star-shaped bodies by their radial function: how far the surface is from the centre in each direction u.

A body of each kind has random proportions and a random rotation. Its centre of mass is near the origin, and its mean
radius is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from surfaces.harmonics import Floats, Grid

Radial: TypeAlias = Callable[[Floats], Floats]
"""Unit vectors ``[..., 3]`` -> radii ``[...]``."""

_LEAST = 1e-9


def ellipsoid(axes: Floats) -> Radial:
    r"""(sum (u_i / a_i)^2)^{-1/2}; a sphere has three equal half axes."""
    return lambda u: ((u / axes) ** 2).sum(-1) ** -0.5


def box(axes: Floats) -> Radial:
    """min a_i / abs(u_i), with the half sides a."""
    return lambda u: (axes / np.maximum(np.abs(u), _LEAST)).min(-1)


def superquadric(axes: Floats, exponent: float) -> Radial:
    r"""(sum abs(u_i / a_i)^p)^{-1/p}: an octahedron with p = 1, an ellipsoid with 2, towards a box beyond."""
    return lambda u: (np.abs(u / axes) ** exponent).sum(-1) ** (-1 / exponent)


def cylinder(radius: float, half: float) -> Radial:
    """min(R / sin, h / abs(cos)) of the angle to its axis, z."""
    return lambda u: np.minimum(
        radius / np.maximum(np.hypot(u[..., 0], u[..., 1]), _LEAST), half / np.maximum(np.abs(u[..., 2]), _LEAST)
    )


def cone(radius: float, height: float) -> Radial:
    """A cone with its tip up, around its centre of mass, a quarter of the height above its base."""

    def radii(u: Floats) -> Floats:
        flat, z = np.hypot(u[..., 0], u[..., 1]), u[..., 2]
        side = 0.75 * height / np.maximum(height / radius * flat + z, _LEAST)
        return np.where(z < 0, np.minimum(side, 0.25 * height / np.maximum(-z, _LEAST)), side)

    return radii


def lens(inner: float, ring: float) -> Radial:
    """A ring that is filled in its middle, like a torus without a hole: 1 around the equator, ``inner`` at the poles.

    A torus itself is no body around its centre. r = inner + (1 - inner) exp(-(z / ring)^2).
    """
    return lambda u: inner + (1 - inner) * np.exp(-((u[..., 2] / ring) ** 2))


def union(first: Radial, second: Radial) -> Radial:
    """What is in one body or the other: the greater radius."""
    return lambda u: np.maximum(first(u), second(u))


def _axes(random: np.random.Generator) -> Floats:
    return random.uniform(0.4, 1.0, 3)


def _proportions(random: np.random.Generator) -> tuple[float, float]:
    """A radius and a height, neither much greater than the other."""
    ratio = float(np.exp(random.uniform(np.log(0.5), np.log(2.0))))
    return 1.0, ratio


def _union(random: np.random.Generator) -> Radial:
    """A body through another one, at a right angle or aslant."""
    bar = np.array([1.0, random.uniform(0.25, 0.4), random.uniform(0.25, 0.4)])
    kinds: list[Callable[[Floats], Radial]] = [box, ellipsoid]
    first, second = (kinds[k] for k in random.integers(2, size=2))
    return union(first(bar), turned(second(bar[[1, 0, 2]] * random.uniform(0.6, 1.0)), tilt(random, 0.3)))


PRIMITIVES: Mapping[str, Callable[[np.random.Generator], Radial]] = {
    "sphere": lambda random: ellipsoid(random.uniform(0.97, 1.03, 3)),
    "ellipsoid": lambda random: ellipsoid(_axes(random)),
    "box": lambda random: box(_axes(random)),
    "superquadric": lambda random: superquadric(_axes(random), random.uniform(0.9, 1.5)),
    "cylinder": lambda random: cylinder(*_proportions(random)),
    "cone": lambda random: cone(1.0, random.uniform(1.0, 3.0)),
    "lens": lambda random: lens(random.uniform(0.35, 0.6), random.uniform(0.25, 0.5)),
    "union": _union,
}
"""A random body of each kind, in its own position; the names are the classes of the data set."""


def turned(radial: Radial, rotation: Floats) -> Radial:
    """The body turned by a rotation matrix."""
    return lambda u: radial(u @ rotation)


def rotation(random: np.random.Generator) -> Floats:
    """A random rotation, all equally likely (from a random unit quaternion)."""
    w, x, y, z = _unit(random.standard_normal(4))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def tilt(random: np.random.Generator, most: float) -> Floats:
    """A small random rotation about the z axis, by at most so many radians."""
    angle = random.uniform(-most, most)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def sample(kind: str, random: np.random.Generator, grid: Grid) -> Floats:
    """The radii of a random body of a kind in the directions of a grid, ``[rings, sectors]``; their mean is 1."""
    radii = turned(PRIMITIVES[kind](random), rotation(random))(grid.directions)
    return scaled(radii, grid)


def scaled(radii: Floats, grid: Grid) -> Floats:
    """The same surface with the mean radius 1."""
    return radii * (4 * np.pi / grid.integral(radii))


def _unit(vector: Floats) -> Floats:
    return vector / np.linalg.norm(vector)
