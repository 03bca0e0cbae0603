"""The benchmark of known modes: its exact numbers, how answers are judged, and that a short training runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.mode_tasks import judged, spoiled
from benchmarks.modes import configured, train
from benchmarks.toy import curve, doubts, lengths, majority_error, toy, zero_error


def test_the_toy_s_exact_numbers() -> None:
    assert zero_error() == pytest.approx(1136 / 315)
    assert majority_error(0.5) == pytest.approx(zero_error())
    assert majority_error(0.7) == pytest.approx(1.2983, abs=1e-4)
    assert float((2 * curve(torch.ones(1))).norm()) == pytest.approx(8 * 3**0.5, abs=1e-5)


def test_both_modes_are_judged() -> None:
    task, told = toy(200), list[dict[str, Any]]()
    config = configured(task, {"iterations": 4, "batch_size": 8, "descents": 2, "settle": 0.5})
    trainer = train(task, config, 1, 2, told.append, answers=8)
    assert [found["iteration"] for found in told] == [2, 4]
    assert trainer.stage == 1
    for name in ("error", "error_off", "error_eq4", "error_at_start"):  # nothing is learned yet: near 0 everywhere
        assert told[-1][name] == pytest.approx(zero_error(), rel=0.3)
    assert sum(told[-1]["shares"]) == pytest.approx(1)
    assert min(lengths(trainer).values()) > 0
    assert min(doubts(trainer).values()) > 0


def test_one_answer_is_no_better_after_the_predictor_s_steps() -> None:
    task, told = toy(200), list[dict[str, Any]]()
    config = configured(task, {"iterations": 2, "batch_size": 8, "deterministic": True, "error": "l1"})
    train(task, config, 1, 2, told.append, answers=2)
    assert told[-1]["error"] == told[-1]["error_at_start"]


def test_answers_belong_to_the_nearest_mode() -> None:
    modes = torch.stack([torch.full((1, 1, 2, 2), level) for level in (0.5, -0.5)])
    made = torch.tensor([0.4, 0.3, -0.5, 0.1]).reshape(1, 4, 1, 1, 1).expand(-1, -1, 1, 2, 2).clone()
    where = torch.tensor([[1.0, 0.0], [1.0, 0.0]])[None, None]
    made[..., 1] = 9.0  # does not count
    found = judged(modes, where, made)
    assert found["error"] == pytest.approx((0.1 + 0.2 + 0 + 0.4) / 4)
    assert found["shares"] == [0.75, 0.25]


def test_upper_halves_are_spoiled_and_lower_ones_are_not() -> None:
    digits = torch.randint(0, 256, (50, 1, 28, 28), generator=torch.Generator().manual_seed(1)).byte()
    found = spoiled(digits, 0.2, 0)
    changed = (found != digits).flatten(1).any(1)
    assert 3 <= int(changed.sum()) <= 20
    assert torch.equal(found[:, :, 14:], digits[:, :, 14:])
    assert (found >= digits).all()
