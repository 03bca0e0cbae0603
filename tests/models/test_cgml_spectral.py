"""cGML for surfaces: maps under noise, what is given and made, and pictures of surfaces."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from models.core.jobs import DenoiseJob
from models.core.loop import run
from models.core.output import Output
from models.data.images import ImageData, to_float
from models.evaluation.base import Run
from models.evaluation.surfaces import SurfaceBench, corrupted, evaluate, wiener_gains
from models.systems.cgml.batch import Clock
from models.systems.cgml.spectral.config import fit_to
from models.systems.cgml.spectral.drawing import Drawing, Radii
from models.systems.cgml.spectral.model import Spectral
from models.systems.cgml.spectral.poses import Cleaning, squares
from models.systems.cgml.spectral.presets import PRESETS
from models.training.draws import Draws
from surfaces.harmonics import harmonics
from surfaces.maps import DEVIATIONS, MEAN_RADIUS, UNIT, scales
from tests.models.zoo import CPU, ZOO, images, job, surface, tiny_model

NAME = "cgml-spectral"
CONFIG = PRESETS["spectral-tiny"]


def spectral() -> Spectral:
    return cast(Spectral, tiny_model(NAME).kernels)


def cleaned(given: Tensor, **changes: Any) -> Output:
    asked = cast(DenoiseJob, job(NAME, "denoise", surface=given, **changes))
    return run(tiny_model(NAME).start("denoise", asked))


def sphere(degrees: int = 32, n: int = 1) -> Tensor:
    found = torch.zeros(n, degrees**2)
    found[:, 0] = MEAN_RADIUS
    return found


# Training


def test_a_condition_and_what_lacks_make_the_map() -> None:
    maps = images(size=32)
    pose = Cleaning(CONFIG, maps, CPU)
    batch = pose.fixed(24)
    clean = to_float(maps.images)
    seen, known = batch.c[:, :1], batch.c[:, 1:] == 0
    near = (clean - batch.given).abs() < 1
    torch.testing.assert_close(pose.shown(batch.y, batch.given)[near], clean[near])
    assert bool((seen[~known] == 0).all())
    noise = (batch.given - clean)[known]
    assert 0.05 < float(noise.std()) < 0.15
    hidden = (~known).flatten(1).sum(1)
    assert set(hidden.tolist()) == {0, 16 * 16}


def test_noise_and_holes_are_of_the_iteration_and_the_row() -> None:
    pose, clock = Cleaning(CONFIG, images(size=32), CPU), Clock(Draws(1), 8, CPU)
    clock.set(3, 0)
    first, again = pose.batch(clock, 8), pose.batch(clock, 8)
    clock.set(4, 0)
    later = pose.batch(clock, 8)
    assert torch.equal(first.c, again.c)
    assert not torch.equal(first.c, later.c)
    assert not torch.equal(first.c[0], first.c[1])


def test_the_error_is_in_part_that_of_the_radii() -> None:
    both, radii = (CONFIG.model_copy(update={"by_radius": share}) for share in (0.5, 1.0))
    scale = torch.from_numpy(scales(DEVIATIONS)).float()
    wrong = 0.1 * torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    of_map, of_radii = wrong.square().flatten(1).mean(1), (wrong.flatten(1) * scale).square().mean(1)
    weights = Cleaning(radii, images(size=32), CPU).fixed(3).weights
    found = (weights * wrong.square()).flatten(1).mean(1)
    torch.testing.assert_close(found, of_radii / scale.square().mean())
    half = (Cleaning(both, images(size=32), CPU).fixed(3).weights * wrong.square()).flatten(1).mean(1)
    torch.testing.assert_close(half, (of_map + found) / 2)


def test_squares_have_half_the_side_and_reach_every_edge() -> None:
    u = torch.rand(4000, 3, generator=torch.Generator().manual_seed(1))
    found = squares(u, 32, 0.25)
    sizes = found.flatten(1).sum(1)
    assert set(sizes.tolist()) == {0.0, 256.0}
    assert float((sizes > 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    anywhere = found.amax(0)[0]
    assert bool((anywhere == 1).all())


def test_only_spectral_maps_are_learned_from() -> None:
    assert fit_to(CONFIG, images(size=32)) == CONFIG
    with pytest.raises(ValueError, match="32x32 grey: take --data primitives"):
        fit_to(CONFIG, images(size=28))
    with pytest.raises(ValueError, match="networks of as many pixels"):
        type(CONFIG).model_validate({**CONFIG.model_dump(), "deviations": DEVIATIONS[:16]})


# Serving


def test_coefficients_become_a_map_and_come_back() -> None:
    model, given = spectral(), surface()
    noisy, unknown = model.given(given)
    missing = given.isnan()
    assert torch.equal(unknown.flatten() > 0, missing)
    back = model.coefficients(noisy)[0]
    torch.testing.assert_close(back[~missing], given[~missing])
    assert bool((back[missing] == 0).all())
    one = sphere()[0]
    one[7 * 7 + 7] = UNIT * DEVIATIONS[7]
    assert model.given(one)[0].flatten()[7 * 7 + 7] == pytest.approx(1)


def test_results_keep_their_size_and_fill_the_gaps() -> None:
    given = surface()
    output = cleaned(given, n=3)
    assert output.surfaces is not None
    assert output.surfaces.shape == (3, 1024)
    assert bool(output.surfaces.isfinite().all())
    torch.testing.assert_close(output.surfaces[:, 0], torch.full((3,), MEAN_RADIUS))
    assert bool((output.surfaces[:, given.isnan()] != 0).all())
    assert {"given", "map", "map_given"} <= output.extras.keys()


def test_a_value_far_out_is_not_cut_off() -> None:
    """The networks see less of it, but what they give is added to all of it."""
    given = sphere()[0]
    given[6] = 10 * UNIT * DEVIATIONS[2]
    found = cleaned(given, n=1).surfaces
    assert found is not None
    assert abs(float(found[0, 6] / given[6]) - 1) < 0.11


def test_a_surface_is_needed() -> None:
    with pytest.raises(ValueError, match="needs the field surface"):
        cleaned(cast(Tensor, None))


# Pictures


def test_the_table_of_radii_is_the_sum_of_the_harmonics() -> None:
    given = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 64))).float()
    found = Radii(8)(given)
    assert found.shape == (2, 1, 65, 129)
    polar, azimuth = np.linspace(0, np.pi, 65)[:, None], np.linspace(-np.pi, np.pi, 129)
    places = np.broadcast_arrays(
        np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar) + 0 * azimuth
    )
    wanted = harmonics(8, np.stack(places, -1).reshape(-1, 3)) @ given.numpy().T
    np.testing.assert_allclose(found.reshape(2, -1).T, wanted, atol=1e-4)


def test_a_sphere_is_a_shaded_disc() -> None:
    picture = Drawing(8, 84)(sphere(8, 2) * torch.tensor([[1.0], [1.5]]))[:, 0]
    assert picture.abs().max() <= 1
    covered = (1 - picture).clamp(0, 1) > 0.05
    pixel = 2 * 2.1 / 84
    for row, radius in ((0, 1.0), (1, 1.5)):
        assert float(covered[row].sum()) * pixel**2 == pytest.approx(math.pi * radius**2, rel=0.05)
        assert bool((picture[row, 0] == 1).all())  # the background
    top, bottom = picture[0, 27:33, 36:48].mean(), picture[0, 51:57, 36:48].mean()
    assert top > bottom + 0.3  # the light is above


def test_a_picture_does_not_depend_on_the_others() -> None:
    drawing = Drawing(32, 32)
    many = sphere(32, 5) + 0.05 * torch.randn(5, 1024, generator=torch.Generator().manual_seed(1))
    together = drawing(many)
    torch.testing.assert_close(drawing(many[3:4]), together[3:4], atol=1e-3, rtol=0)
    assert float((together[0] - together[1]).abs().max()) > 0.1


# Evaluation


def test_the_filter_is_the_best_constant_of_each_degree() -> None:
    random = np.random.default_rng(0)
    clean = np.zeros((4000, 4, 4))
    clean.reshape(4000, -1)[:, 4:9] = 0.3 * random.standard_normal((4000, 5))  # degree 2 alone
    gains = wiener_gains(clean).ravel()
    assert gains[4:9] == pytest.approx(np.full(5, 0.09 / 0.10), abs=5e-3)
    assert np.abs(gains[[*range(4), *range(9, 16)]]).max() == 0


def test_figures_stand_beside_those_of_what_was_given() -> None:
    data = images(n=16, size=32)
    soft = ImageData((to_float(data.images) * 20 + 127.5).to(torch.uint8), data.labels, data.classes, "maps")
    model = tiny_model(NAME)
    found = evaluate(SurfaceBench(model, soft, soft, soft), Run("maps", cast(Any, None), beside={"same": model}))
    for name in ("noise", "hole"):
        rows = found[name]
        assert list(rows) == ["given", "wiener", "cleaned", "same"]
        assert rows["cleaned"] == rows["same"]
        assert rows["wiener"]["radial_rmse"] < rows["given"]["radial_rmse"]
        assert rows["cleaned"]["best_radial_rmse"] <= rows["cleaned"]["radial_rmse"]
        assert 0 < rows["given"]["retrieval_map"] <= 1
    noisy, unknown = corrupted(np.zeros((2, 32, 32)))["hole"]
    assert unknown.sum() == 2 * 16 * 16
    assert np.abs(noisy[unknown > 0]).max() == 0


def test_every_variant_of_surfaces_says_how_large_they_are() -> None:
    card = ZOO[NAME].card()
    assert card["surface"] == {"degrees": 32}
    assert list(card["tasks"]) == ["denoise"]
    assert card["tasks"]["denoise"]["limits"]["max_n"] == 16
