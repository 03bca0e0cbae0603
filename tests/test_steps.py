from __future__ import annotations

import pytest

from benchmarks.steps import most_steps
from models.core.rows import MAX_STEPS


@pytest.mark.parametrize(
    ("bears", "bound"), [(10**6, MAX_STEPS), (MAX_STEPS, MAX_STEPS), (137, 105), (30, 20), (0, 10)]
)
def test_the_bound_keeps_a_margin_and_is_never_below_the_training(bears: int, bound: int) -> None:
    assert most_steps(lambda steps: steps <= bears, trained=10) == bound
