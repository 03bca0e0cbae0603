"""Spectral maps, and the data set of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.data.catalog import DATASETS
from models.data.sets.primitives import make
from surfaces.harmonics import Grid, Transform, power
from surfaces.maps import DEVIATIONS, MEAN_RADIUS, scales, to_map
from surfaces.primitives import PRIMITIVES, sample

GRID = Grid.gauss(64)
TRANSFORM = Transform(32, GRID)


def test_a_map_has_each_coefficient_in_its_cell() -> None:
    given = np.zeros((2, 1024))
    given[:, 0] = MEAN_RADIUS
    given[1, 5 * 5 + 5 - 2] = DEVIATIONS[5]  # l = 5, m = -2
    maps = to_map(given, DEVIATIONS)
    assert maps.shape == (2, 32, 32)
    assert (np.count_nonzero(maps[0]), np.count_nonzero(maps[1])) == (0, 1)
    assert maps[1, 28 // 32, 28 % 32] == pytest.approx(1 / 6)
    np.testing.assert_allclose(maps.reshape(2, -1) * scales(DEVIATIONS) + given * (np.arange(1024) == 0), given)


def test_the_deviations_are_those_of_the_bodies() -> None:
    random, kinds = np.random.default_rng(11), list(PRIMITIVES)
    found = np.array([TRANSFORM.analyse(sample(kinds[k % 8], random, GRID)) for k in range(800)])
    measured = np.sqrt(power(found).mean(0) / (2 * np.arange(32) + 1))
    np.testing.assert_allclose(measured, DEVIATIONS, rtol=0.25)
    assert measured[0] == pytest.approx(MEAN_RADIUS)


def test_the_data_set_is_the_same_wherever_it_is_made() -> None:
    maps, labels = make(16, 1)
    again, _ = make(24, 1)
    assert (maps.shape, maps.dtype, labels.tolist()) == ((16, 32, 32), np.uint8, [*range(8)] * 2)
    assert np.array_equal(maps, again[:16])
    assert not np.array_equal(maps, make(16, 2)[0])
    radii = sample("sphere", np.random.default_rng(1), GRID)
    wanted = to_map(TRANSFORM.analyse(radii), DEVIATIONS)
    np.testing.assert_allclose(maps[0] / 127.5 - 1, np.clip(wanted, -1, 1), atol=1 / 255 + 1e-9)


def test_nothing_is_downloaded_for_it(tmp_path: Path) -> None:
    known = DATASETS["primitives"]
    package = known.unpack(tmp_path)
    assert package == tmp_path
    assert "Apache-2.0" in (package / known.licence_file).read_text()
    assert (known.files, known.weights_may_ship, sum(known.counts.values())) == ({}, True, 18_000)
