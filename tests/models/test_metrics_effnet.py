"""The feature network: what it is given, and a kernel distance that grows as pictures get worse."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from models.data.images import to_float, to_uint8
from models.metrics.effnet import FEATURES, EffNetFeatures, FeaturesError, check_weights
from models.metrics.kid import kid, kid_with_error

DRAWN = 64


@pytest.fixture(scope="module")
def features() -> EffNetFeatures:
    return EffNetFeatures()


def _drawing(rng: np.random.Generator) -> Tensor:
    """Three to six coloured shapes on white, 64 pixels square."""
    image = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 7)):
        x, y = rng.integers(2, 40, 2).tolist()
        width, height = rng.integers(8, 24, 2).tolist()
        shape = (draw.ellipse, draw.rectangle)[rng.integers(2)]
        shape((x, y, x + width, y + height), fill=tuple(rng.integers(0, 256, 3).tolist()), outline="black")
    return to_float(torch.from_numpy(np.array(image)).permute(2, 0, 1))


@pytest.fixture(scope="module")
def drawings() -> Tensor:
    rng = np.random.default_rng(0)
    return torch.stack([_drawing(rng) for _ in range(DRAWN)])


@pytest.fixture(scope="module")
def halves(drawings: Tensor, features: EffNetFeatures) -> tuple[Tensor, Tensor]:
    """The drawings of the second half, and the features of the first."""
    return drawings[DRAWN // 2 :], features(drawings[: DRAWN // 2])


def _blurred(images: Tensor, radius: int) -> Tensor:
    line = torch.exp(-(torch.arange(-3 * radius, 3 * radius + 1) ** 2) / (2 * radius**2))
    window = torch.outer(line, line) / line.sum() ** 2
    padded = F.pad(images, (3 * radius,) * 4, mode="reflect")
    return F.conv2d(padded, window.expand(3, 1, -1, -1), groups=3)


def _noisy(images: Tensor, levels: float) -> Tensor:
    return images + levels / 127.5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


def test_two_halves_of_one_set_are_at_distance_zero(halves: tuple[Tensor, Tensor], features: EffNetFeatures) -> None:
    second, first = halves
    estimate = kid_with_error(features(second), first)
    assert 0 < estimate.std_error < 0.05
    assert abs(estimate.value) < 3 * estimate.std_error


def test_blur_and_noise_grow_the_distance(halves: tuple[Tensor, Tensor], features: EffNetFeatures) -> None:
    second, first = halves
    for damage, (little, much) in ((_blurred, (1, 3)), (_noisy, (1, 4))):
        slightly, badly = (kid(features(damage(second, amount)), first) for amount in (little, much))
        assert 0.02 < slightly < badly


def test_features_are_averages_over_the_last_map(drawings: Tensor, features: EffNetFeatures) -> None:
    got = features(drawings[:3])
    assert got.shape == (3, FEATURES)
    assert got.dtype == torch.float32
    assert not got.requires_grad
    assert got.min() >= 0  # the trunk ends in ReLU6
    assert got.max() <= 6
    assert (got > 0).float().mean() > 0.2


def test_an_image_has_its_features_in_any_company(drawings: Tensor, features: EffNetFeatures) -> None:
    together = features(drawings[:20])  # more than one chunk
    assert torch.allclose(together[17:19], features(drawings[17:19]), atol=1e-5)


def test_images_are_clipped_rounded_resized_and_grey_is_repeated(features: EffNetFeatures) -> None:
    grey = torch.rand(2, 1, 40, 30, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    got = features(grey)
    assert torch.equal(got, features(grey.expand(-1, 3, -1, -1)))
    assert torch.equal(got, features(to_float(to_uint8(grey))))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(0, 3, 8, 8), "at least one"),
        (torch.zeros(2, 4, 8, 8), "1 or 3"),
        (torch.zeros(3, 8, 8), "1 or 3"),
        (torch.full((1, 3, 8, 8), torch.nan), "finite"),
    ],
)
def test_what_is_no_image_is_refused(features: EffNetFeatures, images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        features(images)


def test_weights_other_than_the_reported_ones_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "efficientnet.pth"
    with pytest.raises(FeaturesError, match="can't be read"):
        check_weights(other)
    other.write_bytes(b"other weights")
    with pytest.raises(FeaturesError, match="SHA-256"):
        check_weights(other)


@pytest.fixture
def without_the_extra() -> Iterator[None]:
    name = "efficientnet_lite_pytorch"
    kept = sys.modules.pop(name, None)
    sys.modules[name] = None  # type: ignore[assignment]  # so an import of it fails
    yield
    del sys.modules[name]
    if kept is not None:
        sys.modules[name] = kept


@pytest.mark.usefixtures("without_the_extra")
def test_without_its_packages_the_extra_is_named() -> None:
    with pytest.raises(FeaturesError, match=r"efficientnet_lite_pytorch is missing.*coopserve\[evaluate\]"):
        EffNetFeatures()
