"""What cGML does for a request: answers, their way and their uncertainty, and what stays as it was sent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models.core.loop import run
from models.core.noise import Noise, streams
from models.core.output import Output
from models.data.lab import lightness, to_lab
from models.metrics.modes import greatest_of_several, nearest, of_several, shares, sorted_out_diversity
from models.metrics.pictures import psnr, ssim
from models.samplers.domains import Box, Sphere
from models.systems.cgml.images.model import Cgml
from models.systems.cgml.images.tasks.answers import distances, shown_variance
from models.systems.cgml.variation import variance, varying
from tests.models.zoo import job, picture, tiny_model

COLOUR, PAIRS, HOLES = "cgml-colorize", "cgml-translate", "cgml-inpaint"


def made(task: str, name: str, options: dict[str, Any] | None = None, **changes: Any) -> Output:
    plain = {"uncertainty": 0, "trajectory": 0}
    return run(tiny_model(name).start(task, job(name, task, options={**plain, **(options or {})}, **changes)))


def seen(output: Output) -> Tensor:
    assert output.images is not None
    return output.images


def test_colourings_have_the_lightness_that_was_given() -> None:
    grey = picture({"channels": 1, "height": 12, "width": 12})
    output = made("colorize", COLOUR, image=grey, n=3)
    wanted = lightness(grey[None]).expand(3, -1, -1, -1)
    torch.testing.assert_close(to_lab(seen(output))[:, :1], wanted, atol=0.1, rtol=0)
    assert output.energy is None


def test_shown_pixels_stay_bit_for_bit() -> None:
    asked = job(HOLES, "inpaint", n=3, options={"uncertainty": 0, "trajectory": 0})
    output = run(tiny_model(HOLES).start("inpaint", asked))
    image, mask = (vars(asked)[name] for name in ("image", "mask"))
    shown = (mask == 0).expand_as(image)
    for result in seen(output):
        assert torch.equal(result[shown], image[shown])
        assert not torch.equal(result[~shown], image[~shown])


def test_the_way_of_a_result_is_that_of_fewer_steps() -> None:
    """Without momentum a step is the same however many follow."""
    off = {"momentum": "off"}
    whole = made("translate", PAIRS, {**off, "trajectory": 2}, steps=5)
    assert set(whole.extras) == {"step_2", "step_4"}
    for steps in (2, 4):
        torch.testing.assert_close(whole.extras[f"step_{steps}"], seen(made("translate", PAIRS, off, steps=steps)))
    assert torch.equal(seen(whole), seen(made("translate", PAIRS, off, steps=5)))


def test_a_film_goes_from_the_start_to_the_result() -> None:
    output = made("translate", PAIRS, {"momentum": "off"}, steps=3, animate=True)
    assert output.film is not None
    assert output.film.shape[:2] == (2, 5)
    assert torch.equal(output.film[:, -1], seen(output))
    assert torch.equal(output.film[:, 0], seen(made("translate", PAIRS, refine=False)))
    assert not output.extras


def test_long_ways_are_shown_at_sixteen_places() -> None:
    output = made("translate", PAIRS, {"trajectory": 1}, steps=40)
    assert len(output.extras) == 13  # every third of 40


def test_alpha_and_momentum_change_where_a_row_goes() -> None:
    ends = [
        seen(made("translate", PAIRS, options, steps=6))
        for options in ({}, {"momentum": "off"}, {"momentum": "eq4"}, {"alpha": 2.0})
    ]
    for k, one in enumerate(ends):
        assert not any(torch.equal(one, other) for other in ends[k + 1 :])


def test_uncertainty_is_shown_on_the_model_s_own_scale() -> None:
    output = made("translate", PAIRS, {"uncertainty": 4, "delta": 0.5})
    assert output.extras["uncertainty"].shape == (2, 1, 16, 16)
    assert all(mean > 0 for mean in output.numbers["uncertainty_mean"])
    nowhere = made("translate", PAIRS, {"uncertainty": 4, "delta": 0.0})
    assert nowhere.numbers["uncertainty_mean"] == [0.0, 0.0]
    assert shown_variance(torch.tensor([0.0, 0.5, 1.0, 3.0]), {"uncertainty_scale": 1.0}).tolist() == [-1, 0, 1, 1]


@pytest.mark.parametrize("d", [1, 10])
def test_the_uncertainty_of_a_linear_function(d: int) -> None:
    """Uniform points of a flat ball of radius delta: delta^2 |W_i|^2 / (d + 2)."""
    w = torch.randn(3, d, generator=torch.Generator().manual_seed(2))
    delta, k, rows = 0.1, 1000, 4
    kernel = varying(lambda rows: (rows["z"] @ w.T)[:, :, None, None], Box(10.0))
    blank = torch.zeros(rows, 3, 1, 1)
    state = {"z": torch.zeros(rows, d), "delta": torch.full((rows, 1), delta), "mean": blank, "spread": blank}
    keys = streams(range(rows), 0)
    for t in range(k):
        at = torch.full((rows,), t)
        state = kernel(state, at, Noise.at(keys, at))
    found = state["spread"].mean(0).flatten() / (k - 1)
    torch.testing.assert_close(found, delta**2 * w.square().sum(1) / (d + 2), rtol=0.05, atol=0)
    assert variance(state["spread"], k).shape == (rows, 1, 1, 1)


def test_results_tell_how_far_they_are_from_each_other() -> None:
    pictures = torch.stack([torch.full((3, 2, 2), value) for value in (-1.0, 0.0, 1.0)])
    assert distances(pictures) == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    assert made("translate", PAIRS, n=3).numbers["distances"] == distances(seen(made("translate", PAIRS, n=3)))


def test_a_vector_is_that_of_the_encoder() -> None:
    model, c = tiny_model(PAIRS).kernels, picture({"channels": 1, "height": 16, "width": 16})
    assert isinstance(model, Cgml)
    output = run(tiny_model(PAIRS).start("embed", job(PAIRS, "embed", image=c)))
    expected = model.coder.encode(c[None]).vector[0]
    torch.testing.assert_close(torch.tensor(output.numbers["vector"][0]), expected, atol=1e-5, rtol=0)
    assert (output.images, output.numbers["length"]) == (None, [model.config.network.bottleneck])


def test_the_encoder_of_a_colouring_model_sees_the_lightness_alone() -> None:
    grey = picture({"channels": 1, "height": 12, "width": 12})
    vectors = [
        run(tiny_model(COLOUR).start("embed", job(COLOUR, "embed", image=image))).numbers["vector"][0]
        for image in (grey, grey.expand(3, -1, -1))
    ]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-4)


def test_a_picture_is_encoded_once_for_all_its_rows() -> None:
    task = tiny_model(PAIRS).start("translate", job(PAIRS, "translate", n=5))
    first = next(task)
    assert (first.name, len(first.seeds)) == ("encode", 1)


# What several answers are worth


def test_the_paper_s_diversity() -> None:
    flat = torch.ones(20, 1, 2, 2)
    assert sorted_out_diversity(flat) == 0
    values = torch.tensor([0.0] * 9 + [0.5] + [1.0] * 10)
    assert sorted_out_diversity(flat * values[:, None, None, None]) == pytest.approx(0.3)
    halves = torch.tensor([0.0] * 10 + [1.0] * 10)
    assert sorted_out_diversity(flat * halves[:, None, None, None]) == 0
    with pytest.raises(ValueError, match="20 samples, got 4"):
        sorted_out_diversity(flat[:4])


def test_first_mean_and_best() -> None:
    errors = torch.tensor([[3.0, 1.0, 2.0], [1.0, 5.0, 6.0]])
    assert of_several(errors) == {"first": 2.0, "mean": 3.0, "best": 1.0}
    assert greatest_of_several(errors) == {"first": 2.0, "mean": 3.0, "best": 4.5}
    values, modes = nearest(torch.stack([errors, 4 - errors]))
    assert values.tolist() == [[1, 1, 2], [1, -1, -2]]
    assert shares(modes, 2) == [0.5, 0.5]


def test_known_figures_of_pictures() -> None:
    black, grey = torch.full((1, 1, 16, 16), -1.0), torch.full((1, 1, 16, 16), -0.8)
    assert float(psnr(black, grey)) == pytest.approx(20.0, abs=0.2)
    assert float(ssim(grey, grey)) == pytest.approx(1.0)
    a, b = 0.2, 0.4  # 51 and 102 of 255
    found = float(ssim(torch.full((1, 1, 16, 16), 2 * a - 1), torch.full((1, 1, 16, 16), 2 * b - 1)))
    assert found == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), abs=1e-4)


def test_a_start_lies_on_the_sphere() -> None:
    z = Sphere().start(Noise.at(streams(range(9), 0), torch.zeros(9, dtype=torch.int64)), 5)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(9), atol=1e-6, rtol=0)
