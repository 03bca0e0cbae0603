"""PSNR, SSIM, l1 and diversity against closed forms, with and without a hole."""

import math

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from models.data.images import to_float
from models.metrics.pictures import PSNR_CAP, diversity, l1, ms_ssim, ms_ssim_scales, psnr, ssim


def _levels(*levels: int, side: int = 16) -> Tensor:
    """Images of one 8-bit level each, as floats."""
    return to_float(torch.tensor(levels, dtype=torch.uint8))[:, None, None, None].expand(-1, 3, side, side)


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _ssim_of_constants(a: float, b: float) -> float:
    return (2 * a * b + 0.01**2) / (a * a + b * b + 0.01**2)


def test_an_error_of_a_tenth_is_20_decibels() -> None:
    # The 8-bit levels on both sides of 0.1 in the proportion whose mean square is 0.01.
    error = torch.cat([torch.full((103,), 25), torch.full((101,), 26)]).reshape(1, 1, 12, 17)
    images, targets = to_float((60 + error).to(torch.uint8)), to_float(torch.full_like(error, 60).to(torch.uint8))
    assert psnr(images, targets).item() == pytest.approx(20.0, abs=1e-9)
    assert psnr(targets, images).item() == pytest.approx(20.0, abs=1e-9)


def test_psnr_is_each_images_own() -> None:
    got = psnr(_levels(51, 0, 10), _levels(0, 255, 10))
    assert got.tolist() == pytest.approx([20 * math.log10(5), 0, PSNR_CAP])


def test_ssim_of_constants_is_the_closed_form() -> None:
    assert _ssim_of_constants(0.5, 0.6) == pytest.approx(0.983609, abs=1e-6)
    below, above = ssim(_levels(127, 128), _levels(153, 153)).tolist()  # 127.5 / 255 has no level
    assert below == pytest.approx(_ssim_of_constants(127 / 255, 0.6), abs=1e-9)
    assert above == pytest.approx(_ssim_of_constants(128 / 255, 0.6), abs=1e-9)
    assert below < 0.983609 < above


def test_ssim_agrees_with_torchmetrics() -> None:
    images = (_noise(3, 3, 20, 14), (_noise(3, 3, 20, 14) + 0.3 * _noise(3, 3, 20, 14, seed=1)).clamp(-1, 1))
    seen = [((x + 1) * 127.5).round().double() / 255 for x in images]
    expected = structural_similarity_index_measure(*seen, sigma=1.5, reduction="none", data_range=1.0)
    assert ssim(*images).tolist() == pytest.approx(expected.tolist(), abs=1e-9)


def test_equal_images_are_perfect_also_at_the_borders() -> None:
    images = _noise(70, 3, 8, 8)  # more than one chunk
    assert psnr(images, images).tolist() == [PSNR_CAP] * 70
    assert ssim(images, images).tolist() == pytest.approx([1.0] * 70)
    assert l1(images, images).tolist() == [0.0] * 70


def test_images_are_judged_as_they_are_seen() -> None:
    image = _levels(255)
    assert psnr(image * 1.4, image).item() == PSNR_CAP  # clipped
    assert psnr(image - 0.003, image).item() == PSNR_CAP  # less than half a level
    assert psnr(image - 0.005, image).item() < 50
    assert l1(image * 1.4, image).item() == 0


def test_with_a_mask_the_hole_alone_counts() -> None:
    images, targets = _levels(51, 51).clone(), _levels(0, 0)
    mask = torch.zeros(2, 1, 16, 16)
    mask[0, :, 4:8, 4:12] = 1
    mask[1, :, 0, 0] = 1
    images = torch.where(mask > 0, images, torch.ones(()))  # visible pixels are as wrong as can be
    assert psnr(images, targets, mask).tolist() == pytest.approx([20 * math.log10(5)] * 2)
    assert l1(images, targets, mask).tolist() == pytest.approx([0.4, 0.4])
    assert psnr(images, targets).max() < 1


def test_ssim_in_the_hole_is_the_mean_of_the_map_there() -> None:
    targets = _noise(2, 3, 32, 32)
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:24, 8:24] = 1
    damaged = torch.where(mask > 0, torch.zeros(()), targets)
    inside, everywhere = ssim(damaged, targets, mask), ssim(damaged, targets)
    outside = ssim(damaged, targets, 1 - mask)
    assert torch.all(inside < 0.3)
    assert torch.all(outside > 0.8)
    assert torch.allclose(everywhere, 0.25 * inside + 0.75 * outside)
    far = torch.zeros_like(mask)
    far[:, :, :3] = 1  # windows that see nothing of the damage
    assert ssim(damaged, targets, far).tolist() == pytest.approx([1.0, 1.0])


def test_diversity_is_l1_over_pairs_of_one_condition() -> None:
    first = torch.tensor([0.0, 0.2, 0.6])[:, None, None, None].expand(3, 1, 4, 4)
    second = first * 0 + torch.tensor([0.9, -0.9, 0.9])[:, None, None, None]
    results = torch.stack([first, second])
    assert diversity(results[:1]) == pytest.approx((0.2 + 0.6 + 0.4) / 3)
    assert diversity(results) == pytest.approx((0.4 + 1.2) / 2)
    assert diversity(results[:, :1].expand(-1, 4, -1, -1, -1)) == 0


def test_diversity_in_the_hole() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    results = torch.zeros(1, 2, 3, 4, 4)
    results[0, 1, :, :, :2] = 0.5
    assert diversity(results, mask) == pytest.approx(0.5)
    assert diversity(results, 1 - mask) == 0
    assert diversity(results) == pytest.approx(0.25)


def test_what_can_not_be_compared_is_refused() -> None:
    images = torch.zeros(2, 3, 8, 8)
    for metric in (psnr, ssim, l1):
        with pytest.raises(ValueError, match=r"both be \[n, C, H, W\]"):
            metric(images, images[:1])
        with pytest.raises(ValueError, match="finite"):
            metric(images, images + torch.inf)
        with pytest.raises(ValueError, match="one an image"):
            metric(images, images, torch.ones(1, 1, 8, 8))
        with pytest.raises(ValueError, match="at least one pixel"):
            metric(images, images, torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="6x6"):
        ssim(images[..., :5], images[..., :5])
    with pytest.raises(ValueError, match="two results"):
        diversity(images[:, None])


def test_ms_ssim_of_constants_is_the_luminance_of_the_coarsest_scale() -> None:
    """28 pixels are enough for two scales, 44 for three; plain images differ in luminance alone."""
    luminance = _ssim_of_constants(100 / 255, 110 / 255)
    assert luminance == pytest.approx(0.99548, abs=1e-5)
    for side, weight in ((16, 1.0), (28, 0.2856 / 0.3304), (44, 0.3001 / 0.6305)):
        got = ms_ssim(_levels(100, side=side), _levels(110, side=side))
        assert got.item() == pytest.approx(luminance**weight, abs=1e-9)
    assert [ms_ssim_scales(side) for side in (11, 21, 22, 44, 88, 176, 1024)] == [1, 1, 2, 3, 4, 5, 5]


def test_ms_ssim_is_1_for_equal_images_and_forgives_a_finer_error_more() -> None:
    image, fine = _noise(1, 3, 32, 32, seed=1), _noise(1, 3, 32, 32, seed=2)
    coarse = fine[..., ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert ms_ssim(image, image).item() == pytest.approx(1.0)
    smooth = torch.nn.functional.avg_pool2d(image, 9, 1, 4)
    assert ms_ssim(smooth, smooth + 0.2 * coarse).item() < ms_ssim(smooth, smooth + 0.2 * fine).item() < 1
    with pytest.raises(ValueError, match="at least 11 pixels a side, got 10"):
        ms_ssim(_levels(1, side=10), _levels(1, side=10))
