"""Images in memory: conversion, validation, cropping."""

import pytest
import torch

from models.data.images import DataError, ImageData, fit, to_float, to_uint8


def _data(n: int = 6, classes: tuple[str, ...] = ("a", "b", "c")) -> ImageData:
    images = torch.arange(n * 4, dtype=torch.uint8).view(n, 1, 2, 2)
    return ImageData(images, torch.arange(n) % len(classes), classes, "made")


def test_every_byte_survives_the_way_to_float_and_back() -> None:
    bytes_ = torch.arange(256, dtype=torch.uint8)
    floats = to_float(bytes_)
    assert floats.dtype == torch.float32
    assert floats[0] == -1
    assert floats[-1] == 1
    assert torch.equal(to_uint8(floats), bytes_)


def test_floats_outside_the_range_are_clipped_and_others_rounded() -> None:
    values = torch.tensor([-7.0, -1.0, 0.0, 1.004, 40.0, (100.4 / 127.5) - 1, (100.6 / 127.5) - 1])
    assert to_uint8(values).tolist() == [0, 0, 128, 255, 255, 100, 101]


def test_a_subset_keeps_order_labels_and_classes() -> None:
    part = _data().subset([4, 1])
    assert part.images[:, 0, 0, 0].tolist() == [16, 4]
    assert part.labels is not None
    assert part.labels.tolist() == [1, 1]
    assert part.classes == ("a", "b", "c")
    assert len(part) == 2
    assert part.shape == (1, 2, 2)
    assert len(_data().subset(slice(2, None))) == 4


def test_the_hash_depends_on_pixels_labels_and_classes() -> None:
    data = _data()
    assert data.labels is not None
    others = [
        ImageData(data.images + 1, data.labels, data.classes, "made"),
        ImageData(data.images, data.labels.flip(0), data.classes, "made"),
        ImageData(data.images, data.labels, ("a", "b", "d"), "made"),
        ImageData(data.images, None, (), "made"),
    ]
    assert len({part.sha256() for part in [data, *others]}) == 5
    assert ImageData(data.images.clone(), data.labels.clone(), data.classes, "renamed").sha256() == data.sha256()


def _pairs(n: int = 4) -> ImageData:
    conditions = torch.arange(n * 12, dtype=torch.uint8).view(n, 3, 2, 2)
    return ImageData(torch.zeros(n, 1, 2, 2, dtype=torch.uint8), None, (), "pairs", conditions)


def test_conditions_go_with_their_images() -> None:
    data = _pairs()
    part = data.subset([2, 0])
    assert part.conditions is not None
    assert part.conditions[:, 0, 0, 0].tolist() == [24, 0]
    fitted = data.fit(8, 3, condition_channels=1)
    assert fitted.conditions is not None
    assert (fitted.shape, fitted.conditions.shape) == ((3, 8, 8), (4, 1, 8, 8))
    kept = data.fit(channels=3)
    assert kept.conditions is not None
    assert torch.equal(kept.conditions, data.conditions)  # type: ignore[arg-type]
    assert _data().subset([0]).fit(4, condition_channels=3).conditions is None


def test_conditions_are_part_of_the_hash() -> None:
    data = _pairs()
    assert data.conditions is not None
    others = [
        ImageData(data.images, None, (), "bare"),
        ImageData(data.images, None, (), "other", data.conditions + 1),
        ImageData(data.images, None, (), "grey", data.conditions[:, :1]),
    ]
    assert len({part.sha256() for part in [data, *others]}) == 4
    # Sets without conditions keep the hash that cards already bear.
    known = "0eb19eff7f0722479b46c6f4859ec45d9571446a18b9742a11a0229cc37e6f60"
    assert others[0].sha256() == known


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (torch.zeros(2, 1, 4, 4), "conditions must be uint8"),
        (torch.zeros(2, 2, 4, 4, dtype=torch.uint8), "conditions must be .* 1 or 3"),
        (torch.zeros(3, 1, 4, 4, dtype=torch.uint8), r"must match .* \[2, 4, 4\], got \[3, 4, 4\]"),
        (torch.zeros(2, 1, 4, 5, dtype=torch.uint8), r"got \[2, 4, 5\]"),
    ],
)
def test_bad_conditions_are_refused(conditions: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageData(GOOD, None, (), "bad", conditions)


GOOD = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (GOOD.float(), None, (), "must be uint8"),
        (GOOD[0], None, (), r"must be \[N"),
        (GOOD.expand(2, 2, 4, 4), None, (), "1 or 3"),
        (GOOD[:0], None, (), "not empty"),
        (GOOD, None, ("a",), "no labels"),
        (GOOD, torch.zeros(3, dtype=torch.int64), ("a",), "one an image"),
        (GOOD, torch.zeros(2), ("a",), "int64"),
        (GOOD, torch.tensor([0, 2]), ("a", "b"), r"0\.\.1, found 0\.\.2"),
        (GOOD, torch.tensor([0, -1]), ("a", "b"), "found -1"),
        (GOOD, torch.tensor([0, 1]), ("a", "a"), "differ"),
    ],
)
def test_bad_sets_are_refused(
    images: torch.Tensor, labels: torch.Tensor | None, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ImageData(images, labels, classes, "bad")


def test_fit_crops_the_centre_and_resizes() -> None:
    images = torch.zeros(1, 1, 8, 16, dtype=torch.uint8)
    images[..., 4:12] = 200  # the central square is plain
    assert torch.equal(fit(images, 4), torch.full((1, 1, 4, 4), 200, dtype=torch.uint8))
    assert torch.equal(fit(images), images)
    assert fit(GOOD, 32).shape == (2, 1, 32, 32)


def test_fit_converts_between_grey_and_colour() -> None:
    grey = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    colour = fit(grey, channels=3)
    assert colour.shape == (3, 3, 4, 4)
    assert torch.equal(fit(colour, channels=1), grey)
    green = torch.tensor([0, 255, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    assert fit(green, channels=1).item() == 150  # 0.587 * 255


@pytest.mark.parametrize(("size", "channels", "message"), [(None, 2, "1 .grey. or 3"), (0, None, "at least 1 pixel")])
def test_fit_refuses_what_makes_no_image(size: int | None, channels: int | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit(GOOD, size, channels)
