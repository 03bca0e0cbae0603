"""The benchmark of CoopFlow's trends: what it tells of figures that are known."""

from __future__ import annotations

import click
import pytest
import torch
from torch import Tensor

from benchmarks.trends import by_step_size, course, falls
from models.data.images import to_float
from tests.models.zoo import images, tiny_model


def mean_of(images: Tensor) -> Tensor:
    """Features: the mean and the deviation of the pixels."""
    return torch.stack([images.flatten(1).mean(1), images.flatten(1).std(1)], 1)


def test_a_search_falls_if_its_mean_over_ten_iterations_does() -> None:
    wavy = [1 / (k + 1) + (0.01 if k % 2 else 0) for k in range(40)]
    assert falls(wavy) == 1
    assert falls([*wavy, *wavy]) < 0.9
    assert falls([2.0, 1.0]) == 0  # too short to tell


def test_a_course_compares_the_ends_of_the_phase_in_which_both_learn() -> None:
    others = [{"iteration": k, "phase": 2.0, "move": 9.0, "contrast": 9.0} for k in range(5)]
    both = [
        {"iteration": 5 + k, "phase": 3.0, "move": 1 - k / 40, "contrast": 1.0, "contrast_refined": 1.0 + k}
        for k in range(20)
    ]
    found = course([*others, *both, {"iteration": 25, "warning": "rolled back", "phase": 3.0}])
    assert found["move"] == pytest.approx((1 - 0.5 / 40, 1 - 18.5 / 40))
    assert found["contrast"] == (1.0, 1.0)
    assert found["contrast_refined"] == pytest.approx((1.5, 19.5))
    with pytest.raises(click.ClickException, match="fewer than 10"):
        course(others)


def test_step_sizes_are_held_against_the_same_images() -> None:
    model, target = tiny_model("coopflow"), to_float(images(n=20, size=16).images)
    found = by_step_size(model, target, mean_of, 20, [0.0, 1.0])
    assert list(found) == [0.0, 1.0]
    assert found[0.0].value != found[1.0].value
    assert len(found[1.0].without_group) == len(found[0.0].without_group) == 10
