"""Spherical harmonics and quadrature against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial.legendre import leggauss

from surfaces.harmonics import Grid, Transform, harmonics, legendre, orders, power
from surfaces.primitives import box, ellipsoid, rotation, turned
from surfaces.zernike import body, indices, radial

DEGREES = 32
GRIDS = {"gauss": Grid.gauss(DEGREES), "equiangular": Grid.equiangular(DEGREES)}


def random_function(degrees: int = DEGREES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(degrees**2)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("radius", [1.0, 2.5])
def test_a_sphere_has_one_coefficient(name: str, radius: float) -> None:
    found = Transform(DEGREES, GRIDS[name]).analyse(np.full((len(GRIDS[name].x), GRIDS[name].sectors), radius))
    assert found[0] == pytest.approx(3.5449077018 * radius, rel=1e-10)
    assert np.abs(found[1:]).max() < 1e-10


@pytest.mark.parametrize("name", GRIDS)
def test_a_band_limited_function_comes_back(name: str) -> None:
    transform, given = Transform(DEGREES, GRIDS[name]), random_function()
    assert np.abs(transform.analyse(transform.synthesise(given)) - given).max() < 1e-10


def test_the_harmonics_are_the_known_polynomials() -> None:
    grid = Grid.gauss(3)
    x, y, z = (grid.directions[..., k].ravel() for k in range(3))
    known = [
        np.full_like(x, np.sqrt(1 / (4 * np.pi))),
        *(np.sqrt(3 / (4 * np.pi)) * value for value in (y, z, x)),
        *(np.sqrt(15 / (4 * np.pi)) * value for value in (x * y, y * z)),
        np.sqrt(5 / (16 * np.pi)) * (3 * z**2 - 1),
        np.sqrt(15 / (4 * np.pi)) * x * z,
        np.sqrt(15 / (16 * np.pi)) * (x**2 - y**2),
    ]
    np.testing.assert_allclose(harmonics(3, grid.directions.reshape(-1, 3)), np.stack(known, 1), atol=1e-14)


def test_the_harmonics_are_orthonormal_and_keep_the_addition_theorem() -> None:
    grid = Grid.gauss(8)
    values = harmonics(8, grid.directions.reshape(-1, 3)).T.reshape(-1, 8, 16)
    np.testing.assert_allclose(grid.integral(values[:, None] * values[None]), np.eye(64), atol=1e-12)
    squares = power(harmonics(DEGREES, rotation(np.random.default_rng(1))))
    np.testing.assert_allclose(squares, np.broadcast_to((2 * np.arange(32) + 1) / (4 * np.pi), squares.shape))


def test_the_transform_is_the_sum_of_the_harmonics() -> None:
    grid, given = Grid.gauss(DEGREES), random_function()
    by_hand = harmonics(DEGREES, grid.directions.reshape(-1, 3)) @ given
    np.testing.assert_allclose(Transform(DEGREES, grid).synthesise(given).ravel(), by_hand, atol=1e-11)


def test_the_recursion_is_stable_at_the_paper_s_degrees() -> None:
    """16,384 moments of degree at most 127; their Legendre functions are normalised."""
    x, weights = leggauss(160)
    table = legendre(128, x)
    norms = (table**2 * weights).sum(-1) * 2 * np.pi
    np.testing.assert_allclose(norms[np.tril_indices(128)], 1.0, atol=1e-10)
    assert len(orders(128)[0]) == 16_384


def test_a_rotation_keeps_the_power_of_each_degree() -> None:
    grid, given = Grid.gauss(DEGREES), random_function()
    matrix = rotation(np.random.default_rng(3))
    turned_function = (harmonics(DEGREES, grid.directions.reshape(-1, 3) @ matrix) @ given).reshape(len(grid.x), -1)
    found = Transform(DEGREES, grid).analyse(turned_function)
    assert np.abs(found - given).max() > 0.1
    np.testing.assert_allclose(power(found), power(given), rtol=1e-8)


@pytest.mark.parametrize("radii", [ellipsoid, box])
def test_a_body_that_is_its_own_mirror_image_has_no_odd_degrees(radii) -> None:  # type: ignore[no-untyped-def]
    shape = turned(radii(np.array([0.5, 0.8, 1.0])), rotation(np.random.default_rng(2)))
    grid = Grid.gauss(64)
    found = power(Transform(DEGREES, grid).analyse(shape(grid.directions)))
    assert found[1::2].max() < 1e-20
    assert found[2] > 1e-3


@pytest.mark.parametrize("degrees", [4, 32, 128])
def test_the_weights_of_a_grid_sum_to_two(degrees: int) -> None:
    assert Grid.equiangular(degrees).weights.sum() == pytest.approx(2, abs=1e-13)
    assert Grid.gauss(degrees).weights.sum() == pytest.approx(2, abs=1e-12)


def test_a_grid_with_too_few_sectors_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 63 sectors"):
        Transform(32, Grid.gauss(31))


def test_zernike_functions_are_counted_as_the_paper_does() -> None:
    assert len(indices(6, negative=False)) == 50
    assert len(indices(9)) == 220


def test_zernike_radial_polynomials_are_orthogonal() -> None:
    for degree in range(7):
        own = [radial(n, degree) for n in range(degree, 10, 2)]
        gram = [[_integral(a * b) for b in own] for a in own]
        np.testing.assert_allclose(gram, np.eye(len(own)) / 3, atol=1e-9)
    with pytest.raises(ValueError, match="n = 3 and l = 2"):
        radial(3, 2)


def test_the_zernike_moments_of_a_ball() -> None:
    """Of the unit ball only the first is not zero: R_00 = 1, so it is 1/3 a direction."""
    assert body(0, 0, np.ones(1))[0] == pytest.approx(1 / 3)
    assert body(2, 0, np.ones(1))[0] == pytest.approx(0, abs=1e-12)


def _integral(polynomial: np.polynomial.Polynomial) -> float:
    inner = polynomial * np.polynomial.Polynomial([0, 0, 1])
    return float(inner.integ()(1.0))
