"""No figure stands bare where a weak judge or few test images have given it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.data.images import DataError, ImageData
from models.evaluation.table import table
from models.evaluation.trust import check_splits, with_caveats

METRICS: dict[str, Any] = {
    "refined": {"kid": 0.0011, "kid_std_error": 0.0002, "psnr": 17.25},
    "real": {"kid": 0.0001, "kid_std_error": 0.0003},
    "latents": {"target_accuracy": 0.9, "residual": 0.04, "protocol": {"residual": "what is left"}},
    "protocol": {"kid": "a distance"},
    "seed": 1,
}
JUDGED = frozenset({"kid", "kid_std_error", "target_accuracy"})


def numbers(figures: Any) -> list[str]:
    """The names of all numbers that do not stand under ``doubtful``."""
    found = []
    for name, value in figures.items():
        if isinstance(value, dict) and name not in ("doubtful", "protocol"):
            found += numbers(value)
        elif isinstance(value, float):
            found.append(name)
    return found


@pytest.mark.parametrize("accuracy", [None, 0.9, 1.0])
def test_figures_of_many_images_and_a_good_judge_stay_as_they_are(accuracy: float | None) -> None:
    assert with_caveats(METRICS, 500, accuracy, JUDGED) == METRICS


def test_what_a_weak_judge_says_is_set_apart() -> None:
    found = with_caveats(METRICS, 10_000, 0.89, JUDGED)
    (caveat,) = found["caveats"]
    assert "recognises only 89% of the real test images" in caveat
    assert sorted(numbers(found)) == ["psnr", "residual"]
    assert found["refined"]["doubtful"] == {"kid": 0.0011, "kid_std_error": 0.0002}
    assert found["protocol"] == METRICS["protocol"]


def test_of_few_test_images_no_figure_stands_bare() -> None:
    found = with_caveats(METRICS, 499, None, frozenset())
    assert "only 499 test images" in found["caveats"][0]
    assert numbers(found) == []
    assert found["doubtful"]["refined"] == METRICS["refined"]
    assert found.keys() == {"caveats", "doubtful", "protocol", "seed"}


def test_the_table_is_short_and_marks_what_is_doubtful() -> None:
    lines = table(METRICS)
    assert [line.split() for line in lines if line] == [
        ["kid", "psnr"],
        ["refined", "0.0011", "±", "0.0002", "17.25"],
        ["real", "0.0001", "±", "0.0003"],
        ["target_accuracy", "residual"],
        ["latents", "0.9", "0.04"],
    ]
    doubtful = table(with_caveats(METRICS, 40, 0.5, JUDGED))
    assert [line.partition(":")[0] for line in doubtful[:3]] == ["caution"] * 3
    for value in ("0.0011 ± 0.0002", "17.25", "0.04", "0.9"):
        assert any(f"{value} ?" in line for line in doubtful), value


def data(labels: list[int], name: str, classes: tuple[str, ...] = ("a", "b", "c")) -> ImageData:
    return ImageData(torch.zeros(len(labels), 1, 4, 4, dtype=torch.uint8), torch.tensor(labels), classes, name)


def test_classes_that_can_not_be_measured_are_named(tmp_path: Path) -> None:
    many, classes = data([0, 1, 2] * 10, "m/train"), ("a", "b", "c")
    check_splits(classes, many, many, many)
    with pytest.raises(DataError, match="m/test has no image of the classes a, c to measure against; add images"):
        check_splits(classes, many, many, data([1] * 20, "m/test"))
    with pytest.raises(DataError, match="m/test has 5 and m/valid 30 images; measuring needs at least 10"):
        check_splits(classes, many, data([0, 1, 2] * 10, "m/valid"), data([0, 1, 2, 0, 1], "m/test"))
    with pytest.raises(DataError, match="more than the 3 classes to validate"):
        check_splits(classes, many, data([0, 1, 2], "m/valid"), many)
    with pytest.raises(DataError, match=r"other classes than the model: x, b, c; the model's are a, b, c"):
        check_splits(classes, data([0, 1, 2], "m/train", ("x", "b", "c")), many, many)
