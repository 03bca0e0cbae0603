"""Between surfaces as models take them, of mean radius 1 around the origin, and as clients have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import final

import numpy as np

from surfaces.casting import cast
from surfaces.harmonics import Floats, Grid, Transform

_ROOT = float(np.sqrt(4 * np.pi))
"""The first coefficient of a surface is so many times its mean radius."""
_FEW = 0.01
_RINGS = 64


@final
@dataclass(frozen=True)
class Placing:
    """Where a surface lies.

    Args:
        centre: in the client's coordinates.
        scale: its mean radius there.
    """

    centre: tuple[float, float, float]
    scale: float


@final
@dataclass(frozen=True)
class Placed:
    """A surface as models take it.

    Args:
        coefficients: of its radial function, ``[L^2]``, its mean radius 1; NaN where the client left one out.
        placing: where it lies.
        warnings: what is unusual about it.
    """

    coefficients: Floats
    placing: Placing
    warnings: tuple[str, ...] = ()


def of_mesh(triangles: Floats, degrees: int) -> Placed:
    """The surface of a mesh, seen from its centre of mass in all directions.

    Args:
        triangles: ``[faces, 3, 3]``.
        degrees: L.

    Raises:
        BadMeshError: it can't be seen so; see :func:`surfaces.casting.cast`.
    """
    transform = _transform(degrees)
    seen = cast(triangles, transform.grid)
    found = transform.analyse(seen.radii)
    scale = float(found[0]) / _ROOT
    warnings = []
    if seen.several > _FEW:
        warnings.append(
            f"in {seen.several:.0%} of all directions from its centre there are several surfaces, "
            "of which the outermost was taken"
        )
    if seen.missed > 0:
        warnings.append(f"it has holes, in {seen.missed:.1%} of all directions, which were closed")
    x, y, z = map(float, seen.centre)
    return Placed(found / scale, Placing((x, y, z), scale), tuple(warnings))


def of_coefficients(values: Sequence[float | None]) -> Placed:
    """The surface of coefficients in order of their index; None: unknown. The first must be greater than 0."""
    given = np.array([np.nan if value is None else value for value in values])
    scale = float(given[0]) / _ROOT
    return Placed(given / scale, Placing((0.0, 0.0, 0.0), scale))


@cache
def _transform(degrees: int) -> Transform:
    """More rings than the degrees need: a surface has higher ones, which would be taken for low ones."""
    return Transform(degrees, Grid.gauss(max(_RINGS, 2 * degrees)))
