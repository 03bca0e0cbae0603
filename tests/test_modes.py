"""The benchmark of known modes: its exact numbers, and that a short training runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.modes import configured, curve, majority_error, toy, train, zero_error


def test_the_toy_s_exact_numbers() -> None:
    assert zero_error() == pytest.approx(1136 / 315)
    assert majority_error(0.5) == pytest.approx(zero_error())
    assert majority_error(0.7) == pytest.approx(1.2983, abs=1e-4)
    assert float((2 * curve(torch.ones(1))).norm()) == pytest.approx(8 * 3**0.5, abs=1e-5)


def test_both_modes_are_judged() -> None:
    task, told = toy(200), list[dict[str, Any]]()
    config = configured(task, {"iterations": 4, "batch_size": 8, "descents": 2})
    trainer = train(task, config, 1, 2, told.append)
    assert [found["iteration"] for found in told] == [2, 4]
    assert trainer.stage == 1
    assert told[-1]["error"] == pytest.approx(zero_error(), rel=0.3)  # nothing is learned yet: near 0 everywhere
    assert sum(told[-1]["shares"]) == pytest.approx(1)
