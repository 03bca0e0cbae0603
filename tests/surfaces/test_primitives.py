"""Bodies that are made here."""

from __future__ import annotations

import numpy as np
import pytest

from surfaces.harmonics import Grid
from surfaces.primitives import PRIMITIVES, cone, cylinder, rotation, sample, turned

GRID = Grid.gauss(64)


@pytest.mark.parametrize("kind", PRIMITIVES)
def test_a_random_body_is_finite_and_of_mean_radius_one(kind: str) -> None:
    first, again, other = (sample(kind, np.random.default_rng(seed), GRID) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert 0.2 < first.min() <= first.max() < 4
    assert GRID.integral(first) / (4 * np.pi) == pytest.approx(1)


@pytest.mark.parametrize("kind", PRIMITIVES)
def test_a_body_is_around_its_centre_of_mass(kind: str) -> None:
    for seed in range(4):
        radii = sample(kind, np.random.default_rng(seed), GRID)
        centre = GRID.integral(np.moveaxis(radii[..., None] ** 4 * GRID.directions, -1, 0)) / 4
        assert np.abs(centre).max() < 0.01 * GRID.integral(radii**3) / 3


def test_volumes_are_those_of_the_bodies() -> None:
    """The integral of r^3 / 3; on rings along the axis of the body."""
    fine = Grid.gauss(150)
    assert fine.integral(cone(1.0, 2.0)(fine.directions) ** 3) / 3 == pytest.approx(np.pi * 2 / 3, rel=1e-3)
    assert fine.integral(cylinder(1.0, 0.5)(fine.directions) ** 3) / 3 == pytest.approx(np.pi, rel=1e-3)


def test_a_rotation_turns_a_body_with_its_directions() -> None:
    matrix = rotation(np.random.default_rng(5))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    body = cylinder(1.0, 2.0)
    np.testing.assert_allclose(turned(body, matrix)(GRID.directions @ matrix.T), body(GRID.directions))
