"""Whether figures mean what they seem to: a weak judge or few test images are said, and no figure stands bare then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models.data.images import DataError, ImageData

LEAST_ACCURACY = 0.9
"""Of a judging classifier on real test images; one that recognises fewer says little about images that were made."""
LEAST_IMAGES = 500
"""Test images; distances to fewer change much from one set to another."""
LEAST_TEST, LEAST_OF_A_CLASS = 10, 2

CAVEATS, DOUBTFUL = "caveats", "doubtful"
ABOUT = frozenset({"protocol", "data", "seed", "seconds", "images", "pairs", CAVEATS, "likelihood"})
"""Entries of a card's ``metrics`` that are no figures, or have caveats of their own."""


def with_caveats(
    metrics: Mapping[str, Any], test_images: int, judge_accuracy: float | None, judged: frozenset[str]
) -> dict[str, Any]:
    """The same ``metrics``; figures that are not to be trusted stand under ``doubtful``, and why under ``caveats``.

    Args:
        metrics: as a card has them.
        test_images: that the model was measured against.
        judge_accuracy: the share of real test images that the judging classifier recognises; None without one.
        judged: names of the figures that the classifier gives.
    """
    caveats = []
    found = dict(metrics)
    if judge_accuracy is not None and judge_accuracy < LEAST_ACCURACY:
        caveats.append(
            f"the judging classifier recognises only {judge_accuracy:.0%} of the real test images, so what it says of "
            f"images that were made is worth little: {', '.join(sorted(judged))}"
        )
        found = _set_apart(found, judged)
    if test_images < LEAST_IMAGES:
        caveats.append(
            f"there are only {test_images} test images, and fewer than {LEAST_IMAGES} decide little: other test images "
            "would give other figures"
        )
        about = {name: value for name, value in found.items() if name in ABOUT}
        found = about | {DOUBTFUL: {name: value for name, value in found.items() if name not in ABOUT}}
    return {CAVEATS: caveats, **found} if caveats else found


def _set_apart(figures: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Figures of these names, wherever they stand, one step further in under ``doubtful``."""
    kept: dict[str, Any] = {}
    apart: dict[str, Any] = {}
    for name, value in figures.items():
        if name in ABOUT:
            kept[name] = value
        elif name in names:
            apart[name] = value
        else:
            kept[name] = _set_apart(value, names) if isinstance(value, Mapping) else value
    return {**kept, DOUBTFUL: apart} if apart else kept


def check_splits(classes: tuple[str, ...], train: ImageData, valid: ImageData, test: ImageData) -> None:
    """Refuse data that classes can't be measured on, before anything is trained or generated.

    Args:
        classes: of the model.

    Raises:
        DataError: the data have other classes, or too few images of some.
    """
    if train.classes != classes:
        ours, theirs = ", ".join(classes), ", ".join(train.classes) or "none"
        raise DataError(f"{train.name} has other classes than the model: {theirs}; the model's are {ours}")
    counts = {data.name: _counts(data) for data in (valid, test)}
    advice = "add images, or put more of them into the folders valid and test"
    if lacking := [name for name, count in zip(classes, counts[test.name], strict=True) if not count]:
        raise DataError(f"{test.name} has no image of the classes {', '.join(lacking)} to measure against; {advice}")
    if len(test) < LEAST_TEST or len(valid) <= len(classes) or max(counts[valid.name]) < LEAST_OF_A_CLASS:
        raise DataError(
            f"{test.name} has {len(test)} and {valid.name} {len(valid)} images; measuring needs at least {LEAST_TEST} "
            f"to test and more than the {len(classes)} classes to validate; {advice}"
        )


def _counts(data: ImageData) -> list[int]:
    assert data.labels is not None  # data with classes have labels
    labels: Tensor = data.labels
    return [int(count) for count in labels.bincount(minlength=len(data.classes))]
