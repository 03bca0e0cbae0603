"""How cGML is trained: who may change when, its losses, and that a training goes on where it stopped."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.data.lab import lightness, to_lab, to_rgb
from models.samplers.domains import Sphere
from models.systems.cgml.batch import Batch
from models.systems.cgml.fit import resting
from models.systems.cgml.images.config import Config, fit_to
from models.systems.cgml.images.forms import coloured, of_colour, ring, with_hole
from models.systems.cgml.images.poses import POSES, foreground, squares
from models.systems.cgml.images.presets import PRESETS
from models.systems.cgml.images.training import make_trainer
from models.systems.cgml.losses import expected_lipschitz, histogram_divergence, row_error
from models.systems.cgml.trainer import CgmlTrainer
from models.training.configuration import TrainingError, fit
from tests.models.zoo import CPU, images, pairs


def config(task: str = "translate", norm: str = "group", **training: Any) -> Config:
    """A few small layers for pictures of 16 pixels."""
    small = PRESETS["tiny"].model_dump()
    network = {**small["network"], "stem": (8, 16), "bottleneck": 8, "latent": 4, "hidden": 16, "norm": norm}
    changed = {**small["training"], "iterations": 10, "settle": 0.5, **training}
    return fit_to(
        Config.model_validate({**small, "task": task, "network": network, "training": changed}), pairs().fit(16)
    )


def trainer(task: str = "translate", norm: str = "group", **training: Any) -> CgmlTrainer:
    return make_trainer(config(task, norm, **training), pairs().fit(16), 1, CPU)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def part(one: CgmlTrainer, *names: str) -> dict[str, Tensor]:
    """Weights and buffers of some networks."""
    return {k: v for k, v in one.state().items() if k.partition(".")[0] in names}


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_descents_change_nothing_but_the_latents(norm: str) -> None:
    """Not even the running statistics of a batch norm."""
    one = trainer(norm=norm)
    before, c = one.state(), torch.rand(4, 1, 16, 16)
    coder = one.fit.coder.network
    with resting(coder):
        code = coder.encode(c)
        descent = one.fit.search.descend(
            lambda z: coder.make(code.h, z, code.skips).flatten(1).mean(1), F.normalize(torch.randn(4, 4)), 3, _ignored
        )
    assert descent.places.shape == (4, 4, 4)
    assert (descent.places[1:] != descent.places[:-1]).any()
    assert equal(before, one.state())


def _ignored(before: Tensor, after: Tensor) -> None:
    del before, after


@pytest.mark.parametrize("update", ["pooled", "per_step"])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_each_part_learns_in_its_turn(norm: str, update: str) -> None:
    """Without (c) only Z changes; without Z's turn only H and G do."""
    one = trainer(norm=norm, predictor_update=update)
    one.schedule(0)
    batch = _batch(one)
    coder, predictor = part(one, "coder"), part(one, "predictor")
    one.fit.settle(batch, one.clock)
    assert equal(coder, part(one, "coder"))
    moved = part(one, "predictor")
    assert not any(torch.equal(v, predictor[k]) for k, v in moved.items() if k.endswith("weight"))
    alone = trainer(norm=norm, deterministic=True)
    alone.schedule(0)
    before = part(alone, "coder")
    alone.fit.joint(batch, alone.clock)
    assert not equal(before, part(alone, "coder"))
    assert equal(predictor, part(alone, "predictor"))


def _batch(one: CgmlTrainer) -> Batch:
    return POSES["translate"](config(), pairs().fit(16), CPU).batch(one.clock, 4)


def test_a_row_descends_whatever_its_neighbours_are() -> None:
    one = trainer()
    one.fit.search.typical.fill_(1e-3)
    coder, z, c = one.fit.coder.network, F.normalize(torch.randn(6, 4)), torch.rand(6, 1, 16, 16)

    def ends(rows: list[int]) -> Tensor:
        with resting(coder):
            code = coder.encode(c[rows])
            return one.fit.search.descend(
                lambda z: row_error(coder.make(code.h, z, code.skips), c[rows] - 0.5, torch.ones(1, 1, 1, 1), "l1"),
                z[rows],
                3,
                _ignored,
            ).places[-1]

    torch.testing.assert_close(ends([0, 1]), ends([0, 1, 2, 3, 4, 5, 5])[:2], atol=1e-6, rtol=0)


def test_a_typical_step_has_the_length_that_is_asked_for() -> None:
    search = trainer(step=0.2).fit.search
    search.finding.fill_(1.0)
    z = Sphere().retract(torch.randn(64, 4))
    for _ in range(30):
        descent = search.descend(lambda z: (z * torch.arange(4.0)).sum(1), z, 1, _ignored)
    moved = (descent.places[1] - descent.places[0]).norm(dim=1)
    assert float(moved.median()) == pytest.approx(0.2, rel=0.05)
    found = float(search.beta)
    search.finding.fill_(0.0)
    search.descend(lambda z: 100 * z.sum(1), z, 1, _ignored)
    assert float(search.beta) == found


@pytest.mark.parametrize("task", ["translate", "colorize", "inpaint"])
def test_a_resumed_training_repeats_an_unbroken_one(task: str) -> None:
    """Stopped in the part in which all learn, and where the predictor learns alone."""
    whole = trainer(task)
    halves = {3: trainer(task), 6: trainer(task)}
    for iteration in range(8):
        metrics = whole.step(iteration, 1.0, 0)
        assert all(math.isfinite(value) for value in metrics.values())
        assert whole.diverged(iteration, metrics) is None
        if half := halves.get(iteration + 1):
            half.load_state(whole.state())
    for start, half in halves.items():
        for iteration in range(start, 8):
            half.step(iteration, 1.0, 0)
        assert equal(whole.state(), half.state())
    assert whole.stage == 1
    assert not whole.leave_stage()
    assert whole.samples().shape == (8, 6, 3, 16, 16)
    drawn = whole.draw(5)
    assert drawn is not None
    assert drawn.shape == whole.reference(pairs().images[:5]).shape == (5, 3, 16, 16)


def test_the_predictor_settles_in_the_averages_of_the_others() -> None:
    one = trainer(ema=0.5)
    for iteration in range(5):
        one.step(iteration, 1.0, 0)
    average = {k.removeprefix("ema_"): v for k, v in part(one, "ema_coder").items()}
    assert not equal(average, part(one, "coder"))
    one.step(5, 1.0, 0)
    assert equal(average, part(one, "coder"))


def test_what_grows_or_is_broken_is_told() -> None:
    one = trainer()
    assert one.diverged(0, {}) is None
    one.load_state({**one.state(), "watch": torch.tensor([0.0, 0.1, 200, 0, 0.0], dtype=torch.float64)})
    assert "three times its mean" in (one.diverged(0, {}) or "")
    one.load_state({**one.state(), "watch": torch.tensor([0.0, 0.1, 0, 3, 0.0], dtype=torch.float64)})
    assert "not finite" in (one.diverged(0, {}) or "")
    one.load_state({**one.state(), "watch": torch.tensor([0.0, 0.1, 0, 0, 1.6], dtype=torch.float64)})
    assert "kappa" in (one.diverged(0, {}) or "")


def test_the_rate_is_halved_twice() -> None:
    training = config(learning_rate=0.4).training
    assert [training.rate(k) for k in (0, 5, 6, 7, 8, 9)] == [0.4, 0.4, 0.2, 0.2, 0.1, 0.1]
    assert (training.joint, config(deterministic=True).training.joint) == (5, 10)


def test_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TrainingError, match="no condition images"):
        fit("cgml/images", PRESETS["tiny"], images(4, 16))
    with pytest.raises(TrainingError, match="image-size 16"):
        fit("cgml/images", PRESETS["tiny"], images(4, 20))
    with pytest.raises(TrainingError, match="images in colour"):
        fit("cgml/images", PRESETS["emoji-64-color"], images(4, 64))
    assert fit("cgml/images", PRESETS["small-32-inpaint"], images(4, 28)).model_dump()["image_size"] == 28


# Losses and forms


def test_a_grey_histogram_is_far_from_a_uniform_one() -> None:
    ones = torch.ones(1, 1, 40, 40)
    assert float(histogram_divergence(torch.zeros(1, 1, 40, 40), ones)) == pytest.approx(3.0341, abs=2e-4)
    even = torch.linspace(-1, 1, 40_000).reshape(1, 1, 200, 200)
    assert abs(float(histogram_divergence(even, torch.ones_like(even)))) < 1e-4
    three = torch.tensor([-2 / 21, 0.0, 2 / 21]).repeat(4).reshape(1, 1, 3, 4)
    assert float(histogram_divergence(three, torch.ones_like(three))) == pytest.approx(math.log(7), abs=0.02)


def test_the_histogram_pushes_each_pixel_to_the_less_filled_bin() -> None:
    plane = torch.tensor([0.03, 0.01, 0.01, -0.05]).reshape(1, 1, 2, 2).requires_grad_(True)
    (gradient,) = torch.autograd.grad(histogram_divergence(plane, torch.ones(1, 1, 2, 2)), plane)
    assert gradient.isfinite().all()
    assert (gradient != 0).all()
    assert gradient[0, 0, 0, 0] < 0 < gradient[0, 0, 1, 1]


def test_pixels_without_weight_do_not_count() -> None:
    made, y = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    y[:, :, :2] = 0.25
    weights = torch.zeros(2, 1, 4, 4)
    weights[:, :, :2] = 1
    assert row_error(made, y, weights, "l1").tolist() == [0.25, 0.25]
    assert row_error(made, y, weights, "mse").tolist() == [0.0625, 0.0625]


def test_noise_changes_a_linear_function_by_the_length_of_its_rows() -> None:
    generator = torch.Generator().manual_seed(1)
    w, e = torch.randn(30, 12, generator=generator), torch.randn(20_000, 12, generator=generator)
    assert float((1e-3 * e @ w.T).abs().mean()) == pytest.approx(expected_lipschitz(1e-3, w), rel=0.03)


COLOURS = {
    (1.0, 1.0, 1.0): (100.0, 0.0, 0.0),
    (1.0, -1.0, -1.0): (53.24, 80.09, 67.20),
    (-1.0, 1.0, -1.0): (87.73, -86.18, 83.18),
    (-1.0, -1.0, 1.0): (32.30, 79.19, -107.86),
}


@pytest.mark.parametrize(("rgb", "lab"), COLOURS.items())
def test_colours_in_lab(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = to_lab(torch.tensor(rgb).reshape(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(found, torch.tensor(lab), atol=0.02, rtol=0)


def test_lab_and_back() -> None:
    line = torch.linspace(-1, 1, 18)
    cube = torch.stack(torch.meshgrid(line, line, line, indexing="ij")).reshape(1, 3, 18, 324)
    lab = to_lab(cube)
    assert lab[:, 1].min() > -86.2
    assert lab[:, 1].max() < 98.25
    assert lab[:, 2].min() > -107.87
    assert lab[:, 2].max() < 94.49
    torch.testing.assert_close(to_rgb(lab), cube, atol=2 / 255, rtol=0)
    light, ab = of_colour(cube)
    torch.testing.assert_close(coloured(light, ab), cube, atol=2 / 255, rtol=0)
    assert ab.abs().max() < 1


def test_colours_that_srgb_lacks_keep_their_lightness() -> None:
    light = torch.full((1, 1, 8, 8), 0.2)
    ab = torch.linspace(-1, 1, 128).reshape(1, 2, 8, 8)
    made = coloured(light, ab)
    assert made.abs().max() <= 1
    torch.testing.assert_close(to_lab(made)[:, :1], torch.full((1, 1, 8, 8), 60.0), atol=0.05, rtol=0)
    grey = torch.linspace(-1, 1, 9).reshape(1, 1, 3, 3)
    torch.testing.assert_close(lightness(grey), to_lab(grey.expand(1, 3, 3, 3))[:, :1], atol=0.02, rtol=0)


def test_holes_of_a_batch_differ_and_have_a_ring() -> None:
    u = torch.rand(200, 3, generator=torch.Generator().manual_seed(1))
    hidden = squares(u, 64)
    sides = hidden.flatten(1).sum(1).sqrt()
    assert torch.equal(sides, sides.round())
    assert 16 <= sides.min() < sides.max() <= 35
    assert len({tuple(mask.nonzero()[0].tolist()) for mask in hidden}) > 100
    alone = squares(torch.tensor([[0.5, 0.5, 0.5]]), 64)
    side = float(alone.sum().sqrt())
    assert float(ring(alone).sum().sqrt()) == side + 10
    given = with_hole(torch.full((1, 1, 64, 64), 0.5), alone, "sentinel")
    assert set(given.flatten().tolist()) == {-2.0, 0.5}
    assert with_hole(torch.ones(1, 3, 64, 64), alone, "mask").shape == (1, 4, 64, 64)


def test_white_is_background() -> None:
    picture = torch.ones(1, 3, 2, 2)
    picture[:, :, 0, 0] = torch.tensor([1.0, -1.0, 1.0])
    assert foreground(picture, True).flatten().tolist() == pytest.approx([1, 1e-4, 1e-4, 1e-4])
    assert foreground(picture, False).flatten().tolist() == [1, 1, 1, 1]
