"""Parzen windows against closed forms, and against real and unreal images."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from models.data.catalog import load
from models.data.images import to_float
from models.metrics.parzen import BANDWIDTHS, log_likelihood, parzen

SAMPLE = str(Path(__file__).parents[1] / "data" / "fashion-sample.npz")


@pytest.mark.parametrize(("h", "expected"), [(0.1, 1084.78), (0.2, 541.35)])
def test_all_samples_on_the_test_point(h: float, expected: float) -> None:
    # The closed form -D/2 log(2 pi h^2) with D = 784.
    point = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    got = log_likelihood(point, point.expand(50, -1, -1, -1), h)
    assert got.item() == pytest.approx(expected, abs=0.01)
    assert got.item() == pytest.approx(-392 * math.log(2 * math.pi * h * h), abs=1e-6)


def test_a_known_distance_and_an_average_over_two_windows() -> None:
    # On [0, 1] the two samples are 0.5 and 1 away from the point in one of four pixels.
    point = torch.full((1, 1, 2, 2), -1.0)
    samples = point.repeat(2, 1, 1, 1)
    samples[0, 0, 0, 0], samples[1, 0, 0, 0] = 0.0, 1.0
    h = 0.5
    expected = math.log((math.exp(-0.25 / 0.5) + math.exp(-1 / 0.5)) / 2) - 2 * math.log(2 * math.pi * h * h)
    assert log_likelihood(point, samples, h).item() == pytest.approx(expected, abs=1e-9)


def test_images_are_clipped_before_they_are_mapped() -> None:
    inside, outside = torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 1.3)
    assert torch.equal(log_likelihood(inside, inside, 0.3), log_likelihood(inside, outside, 0.3))


def test_the_bandwidths_are_ten_from_a_tenth_to_one() -> None:
    assert torch.allclose(torch.tensor(BANDWIDTHS), torch.logspace(-1, 0, 10))


def test_the_bandwidth_is_the_best_for_the_held_out_images_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    samples, valid, test = (torch.rand(n, 1, 4, 4, generator=generator) * 2 - 1 for n in (300, 200, 700))
    result = parzen(samples, valid, test)
    means = {h: float(log_likelihood(valid, samples, h).mean()) for h in BANDWIDTHS}
    assert result.bandwidth == max(means, key=lambda h: means[h])
    assert BANDWIDTHS[0] < result.bandwidth < BANDWIDTHS[-1]
    scores = log_likelihood(test, samples, result.bandwidth)
    assert result.mean == pytest.approx(float(scores.mean()), abs=1e-9)
    assert result.std_error == pytest.approx(float(scores.std(correction=0)) / math.sqrt(700), abs=1e-9)


def test_real_images_score_above_blurred_ones_and_far_above_their_mean() -> None:
    train, valid, test = (to_float(load(SAMPLE, split, Path()).images) for split in ("train", "valid", "test"))
    real = parzen(train, valid, test)
    blurred = parzen(F.avg_pool2d(train, 5, 1, 2), valid, test)
    mean = parzen(train.mean(0, keepdim=True), valid, test)
    assert real.mean > blurred.mean + 20
    assert real.mean > mean.mean + 200
    assert 0 < real.std_error < 50


def test_bad_images_are_refused() -> None:
    good = torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match="not none"):
        parzen(good[:0], good, good)
    with pytest.raises(ValueError, match="finite"):
        parzen(good.log() * 0, good, good)
    with pytest.raises(ValueError, match="same shape"):
        parzen(good, good, torch.zeros(2, 1, 5, 4))
