"""A star-shaped surface as an OBJ file."""

from __future__ import annotations

import io

import numpy as np

from surfaces.harmonics import Floats, Grid, Transform, harmonics
from surfaces.placing import Placing


def obj_of(coefficients: Floats, placing: Placing, rings: int = 48) -> bytes:
    """The surface of a radial function, as a closed mesh of triangles whose faces look outwards.

    Args:
        coefficients: of its harmonics, ``[L^2]``.
        placing: where it lies.
        rings: of vertices between the poles; each has twice as many.
    """
    degrees = round(len(coefficients) ** 0.5)
    grid = Grid.gauss(max(rings, degrees))
    poles = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    inner = Transform(degrees, grid).synthesise(coefficients)[..., None] * grid.directions
    north, south = (harmonics(degrees, poles) @ coefficients)[:, None] * poles
    vertices = np.concatenate([[north], inner.reshape(-1, 3), [south]]) * placing.scale + np.array(placing.centre)
    text = io.StringIO()
    text.write("# a star-shaped surface, written by coopserve\n")
    np.savetxt(text, vertices, fmt="v %.6g %.6g %.6g")
    np.savetxt(text, _faces(len(grid.x), grid.sectors) + 1, fmt="f %d %d %d")
    return text.getvalue().encode("ascii")


def _faces(rings: int, sectors: int) -> np.ndarray:
    """Corners of the triangles, from 0: the north pole, then the rings, then the south pole."""
    here = np.arange(sectors)
    there = (here + 1) % sectors
    first, last = 1, 1 + (rings - 1) * sectors
    caps = [
        np.stack([np.zeros_like(here), first + here, first + there], 1),
        np.stack([np.full_like(here, 1 + rings * sectors), last + there, last + here], 1),
    ]
    upper = (1 + sectors * np.arange(rings - 1))[:, None]
    a, b = upper + here, upper + there
    c, d = a + sectors, b + sectors
    sides = [np.stack([a, c, d], -1).reshape(-1, 3), np.stack([a, d, b], -1).reshape(-1, 3)]
    return np.concatenate([caps[0], *sides, caps[1]])
