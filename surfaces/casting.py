"""The radial function of a mesh: how far its outermost point is from its centre, in each direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from surfaces.harmonics import Floats, Grid
from surfaces.mesh import BadMeshError

_CLOSED = 1e-6
"""A body whose volume is less than this of its size cubed is a sheet: its faces have no consistent inside."""
_MISSED = 0.1
"""The greatest part of the directions in which there may be nothing."""
_SLACK = 1e-12
"""Rays along an edge hit, whatever the rounding."""
_PAIRS = 32_768
"""Rays times triangles that are looked at together: they fit into a processor's cache."""
_MOST_PAIRS = 60_000_000
"""The most in all, some seconds of work. A fine mesh of 50,000 triangles takes 10 million."""


@final
@dataclass(frozen=True)
class Cast:
    """A mesh seen from its centre.

    Args:
        radii: of the outermost hit, ``[rings, sectors]``.
        centre: ``[3]``, in the coordinates of the file.
        several: the part of the directions in which there are several surfaces, of which the outermost was taken.
        missed: the part in which there is none; the nearest radius was taken.
    """

    radii: Floats
    centre: Floats
    several: float
    missed: float


def cast(triangles: Floats, grid: Grid) -> Cast:
    """Look from the centre of a mesh in the directions of a grid.

    Args:
        triangles: ``[faces, 3, 3]``.
        grid: the directions.

    Raises:
        BadMeshError: the mesh has no size, does not surround its centre, or would take too long.
    """
    middle = (triangles.min((0, 1)) + triangles.max((0, 1))) / 2
    size = float(np.abs(triangles - middle).max())
    if size <= 0:
        raise BadMeshError("all its points are one")
    unit = (triangles - middle) / size
    centre = _centre(unit)
    least, most = hits(unit - centre, grid)
    missed = ~np.isfinite(most)
    if missed.mean() > _MISSED:
        raise BadMeshError(
            f"it does not surround its centre: in {missed.mean():.0%} of all directions there is nothing; "
            "send a closed surface"
        )
    radii = np.where(missed, 0.0, most)
    radii[missed] = _nearest(radii, missed, grid)
    several = (most > least * (1 + 1e-6) + 1e-9) & ~missed
    return Cast(radii * size, middle + size * centre, float(several.mean()), float(missed.mean()))


def _centre(triangles: Floats) -> Floats:
    """The centre of mass of the body; of a mesh without an inside that of its surface."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    volumes = np.einsum("ni,ni->n", a, np.cross(b, c)) / 6
    weights, part = volumes, triangles.sum(1) / 4
    if abs(volumes.sum()) < _CLOSED:
        weights, part = np.linalg.norm(np.cross(b - a, c - a), axis=1), triangles.sum(1) / 3
        if weights.sum() <= 0:
            raise BadMeshError("its faces have no area")
    centre: Floats = (weights[:, None] * part).sum(0) / weights.sum()
    if np.abs(centre).max() > 1:  # of a mesh whose faces are turned at random: a body has its centre within its bounds
        return np.zeros(3)
    return centre


def hits(triangles: Floats, grid: Grid) -> tuple[Floats, Floats]:
    r"""The nearest and the farthest hit from the origin in each direction, ``[rings, sectors]``; inf and -inf: none.

    A ray d meets the triangle (a, b, c) if d (a x b), d (b x c) and d (c x a) have one sign, at the distance
    a (b x c) / d (a x b + b x c + c x a). Triangles lie in a cone around their middle, so each ring has few of them.
    """
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    edges = np.stack([np.cross(a, b), np.cross(b, c), np.cross(c, a)])
    volume = np.einsum("ni,ni->n", a, edges[1])
    scale = np.linalg.norm(edges, axis=2).max(0) * _SLACK
    low, high = _polar_range(triangles)
    polar_angles = np.arccos(grid.x)
    seen = np.searchsorted(polar_angles, high, "right") - np.searchsorted(polar_angles, low, "left")
    if seen.sum() * grid.sectors > _MOST_PAIRS:
        raise BadMeshError("it has too many triangles that are large, seen from its centre; simplify or remesh it")
    nearest, farthest = np.full(grid.directions.shape[:2], np.inf), np.full(grid.directions.shape[:2], -np.inf)
    step = max(1, _PAIRS // grid.sectors)
    for ring, polar in enumerate(polar_angles):
        near = np.flatnonzero((low <= polar) & (polar <= high))
        for first in range(0, len(near), step):
            some = near[first : first + step]
            sides = edges[:, some] @ grid.directions[ring].T  # [3, faces, sectors]
            top, bottom = sides.max(0), sides.min(0)
            slack = scale[some, None]
            total = sides.sum(0)
            with np.errstate(divide="ignore", invalid="ignore"):
                distance = volume[some, None] / total
            hit = ((bottom >= -slack) | (top <= slack)) & (distance > 0) & np.isfinite(distance)
            nearest[ring] = np.minimum(nearest[ring], np.where(hit, distance, np.inf).min(0))
            farthest[ring] = np.maximum(farthest[ring], np.where(hit, distance, -np.inf).max(0))
    return nearest, farthest


def _polar_range(triangles: Floats) -> tuple[Floats, Floats]:
    """Between which polar angles each triangle lies, seen from the origin: those of a cone around all its corners.

    A cone of less than a right angle that holds the corners holds the triangle; a wider one is not looked at.
    """
    length = np.linalg.norm(triangles, axis=2, keepdims=True)
    corners = triangles / np.maximum(length, 1e-300)
    middle = corners.sum(1)
    norm = np.linalg.norm(middle, axis=1)
    axis = middle / np.maximum(norm, 1e-300)[:, None]
    angle = np.arccos(np.clip(np.einsum("nki,ni->nk", corners, axis), -1, 1)).max(1) + 1e-7
    wide = (norm < 1e-6) | (angle >= 1.5) | (length.min((1, 2)) < 1e-12)
    polar = np.arccos(np.clip(axis[:, 2], -1, 1))
    return np.where(wide, 0.0, polar - angle), np.where(wide, np.pi, polar + angle)


def _nearest(radii: Floats, missed: np.ndarray, grid: Grid) -> Floats:
    """For each missed direction the radius of the nearest one that was not."""
    known = grid.directions[~missed]
    closest = (grid.directions[missed] @ known.T).argmax(1) if missed.any() else np.zeros(0, dtype=np.int64)
    found: Floats = radii[~missed][closest]
    return found
