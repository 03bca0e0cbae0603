"""Scores of translations without pairs on cases whose answer is known."""

import math

import pytest
import torch
from torch import Tensor

from models.metrics.unpaired import (
    PROTOCOL,
    nearest_distances,
    novelty,
    protocol,
    retrieval,
    saliency_mass,
    score_pairs,
)


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _means(images: Tensor) -> Tensor:
    """A stand-in for the feature network: the mean of each row of pixels."""
    return images.mean(3).flatten(1)


def test_equal_images_are_retrieved_and_perfect() -> None:
    truth = _noise(20, 3, 6, 6)
    scores = score_pairs(truth, truth, _means)
    assert scores.keys() == PROTOCOL.keys() == protocol(20).keys()
    assert (scores["l1"], scores["psnr"], scores["top1_pixels"], scores["top1_features"]) == (0, 100, 1, 1)
    assert scores["kid"] <= 0  # the unbiased estimate of a set against itself
    assert "chance is 1/20" in protocol(20)["top1_pixels"]


def test_pixels_and_features_are_judged_apart() -> None:
    truth = _noise(20, 1, 6, 6)
    mirrored = truth.flip(3)  # leaves the means of rows alone
    scores = score_pairs(mirrored, truth, _means)
    assert scores["top1_features"] == 1
    assert scores["top1_pixels"] < 0.5
    assert scores["kid"] == pytest.approx(score_pairs(truth, truth, _means)["kid"], abs=1e-6)
    brighter = score_pairs(truth.clamp(-1, 0.8) + 0.2, truth.clamp(-1, 0.8), _means)
    assert brighter["l1"] == pytest.approx(0.2, abs=1e-6)
    assert brighter["psnr"] == pytest.approx(20, abs=0.05)


def test_what_lies_beyond_the_range_does_not_count() -> None:
    truth = _noise(12, 1, 4, 4).sign()
    assert score_pairs(3 * truth, truth, _means) == score_pairs(truth, truth, _means)


def test_retrieval_counts_who_finds_its_own() -> None:
    truth = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    assert retrieval(torch.tensor([[0.1], [1.4], [1.2], [9.0]]), truth) == 3 / 4
    assert retrieval(truth.flip(0), truth) == 0
    assert retrieval(_noise(600, 2), _noise(600, 2)) == 1  # several chunks


def test_equal_true_images_share_the_hit() -> None:
    truth = torch.tensor([[0.0], [0.0], [0.0], [5.0]])
    assert retrieval(torch.zeros(4, 1), truth) == pytest.approx((3 * 1 / 3) / 4)
    assert retrieval(truth, truth) == pytest.approx((1 + 1) / 4)
    with pytest.raises(ValueError, match="one shape"):
        retrieval(truth, truth[:3])
    with pytest.raises(ValueError, match="one shape"):
        retrieval(truth[:0], truth[:0])


def test_nearest_distances_are_root_mean_squares() -> None:
    others = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    images = torch.stack([torch.full((1, 4, 4), 0.3), torch.full((1, 4, 4), 0.9), torch.ones(1, 4, 4)])
    assert nearest_distances(images, others).tolist() == pytest.approx([0.3, 0.1, 0], abs=1e-7)
    large = _noise(700, 1, 8, 8)
    assert nearest_distances(large, large.flip(0)).tolist() == [0.0] * 700  # exact, where products are not
    by_hand = (large[:50, None] - large[None, 50:]).square().mean((2, 3, 4)).min(1).values.sqrt()
    assert nearest_distances(large[:50], large[50:]).tolist() == pytest.approx(by_hand.tolist(), abs=1e-6)
    with pytest.raises(ValueError, match="agree but in number"):
        nearest_distances(large, large[:, :, 1:])
    with pytest.raises(ValueError, match="not be empty"):
        nearest_distances(large, large[:0])


def test_copies_are_no_novelty() -> None:
    train, held_out = _noise(300, 3, 4, 4), _noise(100, 3, 4, 4, seed=1)
    fresh = novelty(_noise(100, 3, 4, 4, seed=2), held_out, train)
    assert fresh.ratio == pytest.approx(1, abs=0.05)
    assert fresh.held_out == pytest.approx(nearest_distances(held_out, train).median().item())
    copied = novelty(train[:50] + 0.01, held_out, train)
    assert copied.samples == pytest.approx(0.01, abs=1e-6)
    assert copied.ratio < 0.05


def _changed_square(n: int) -> tuple[Tensor, Tensor]:
    """White pictures, of which a square of 4 x 4 of 8 x 8 pixels becomes black."""
    source = torch.ones(n, 3, 8, 8)
    target = source.clone()
    target[:, :, 2:6, 2:6] = -1
    return source, target


def test_saliency_is_held_against_the_share_of_area() -> None:
    source, target = _changed_square(2)
    even = saliency_mass(torch.ones(2, 1, 8, 8), source, target)
    assert (even.mass, even.area, even.images) == (0.25, 0.25, 2)
    difference = (source - target).abs().mean(1, keepdim=True)
    assert saliency_mass(difference, source, target).mass == 1
    assert saliency_mass(2 - difference, source, target).mass == 0
    half = torch.zeros(2, 1, 8, 8)
    half[0, 0, 3, 3], half[0, 0, 0, 0] = 3, 1  # the maps' own scales don't matter: 3/4 and 1 on the square
    half[1, 0, 3, 3] = 100
    assert saliency_mass(half, source, target).mass == pytest.approx((0.75 + 1) / 2)


def test_a_small_difference_is_no_change() -> None:
    source, target = _changed_square(1)
    source[:, :, 0, 0] -= 0.09
    source[:, 0, 0, 1] -= 0.29  # one channel: 0.097 on average
    source[:, 0, 7, 7] -= 0.31
    maps = torch.ones(1, 1, 8, 8)
    assert saliency_mass(maps, source, target).area == 17 / 64
    assert saliency_mass(maps, source, target, threshold=0.05).area == 19 / 64


def test_images_without_change_or_saliency_do_not_count() -> None:
    source, target = _changed_square(3)
    target[1] = source[1]
    maps = torch.ones(3, 1, 8, 8)
    maps[2] = 0
    found = saliency_mass(maps, source, target)
    assert (found.mass, found.area, found.images) == (0.25, 0.25, 1)
    with pytest.raises(ValueError, match="no image has both"):
        saliency_mass(maps[1:], source[1:], target[1:])


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_maps_must_be_maps(value: float) -> None:
    source, target = _changed_square(1)
    maps = torch.ones(1, 1, 8, 8)
    with pytest.raises(ValueError, match="maps \\[n, 1, H, W\\]"):
        saliency_mass(maps.expand(1, 3, 8, 8), source, target)
    maps[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match="finite and not negative"):
        saliency_mass(maps, source, target)
