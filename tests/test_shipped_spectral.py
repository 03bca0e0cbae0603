"""The shipped model of surfaces cleans bodies that it has not seen, better than the best linear filter."""

from __future__ import annotations

import numpy as np
import pytest

import coopserve
from models.data.sets.primitives import make
from models.evaluation.surfaces import corrupted, wiener_gains
from surfaces.maps import DEVIATIONS, MEAN_RADIUS, scales
from surfaces.mesh import MeshLimits, read_mesh
from surfaces.placing import of_mesh


@pytest.mark.parametrize("kind", ["noise", "hole"])
def test_it_beats_a_linear_filter(kind: str) -> None:
    maps, scale = make(80, 99)[0] / 127.5 - 1, scales(DEVIATIONS)
    truth, gains = maps[:8], wiener_gains(maps)
    noisy, unknown = corrupted(truth)[kind]
    model, errors = coopserve.load("spectral-cgml", device="cpu"), []
    for k in range(len(truth)):
        values = noisy[k].ravel() * scale
        values[0] = MEAN_RADIUS
        given = [None if hidden else float(v) for v, hidden in zip(values, unknown[k].ravel(), strict=True)]
        (file,) = model.denoise(surface=given, seed=1).surfaces
        found = of_mesh(read_mesh(file, MeshLimits(2**20, 20_000)), 32).coefficients
        errors.append(
            [np.abs(x - truth[k].ravel() * scale)[1:].std() for x in (found, (noisy[k] * gains).ravel() * scale)]
        )
    cleaned, filtered = np.mean(errors, 0)
    assert cleaned < filtered
