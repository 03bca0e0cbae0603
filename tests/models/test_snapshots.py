"""The states that a training can go back to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.training.snapshots import EVERY, Snapshots


def ring(folder: Path, *iterations: int) -> Snapshots:
    """Snapshots of these iterations, each with a tensor that tells which it is."""
    snapshots = Snapshots(folder)
    for iteration in iterations:
        snapshots.add(iteration, {"at": torch.tensor([iteration])}, {"iteration": iteration})
    return snapshots


def kept(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.iterdir())


@pytest.mark.parametrize(
    ("iterations", "failed", "expected"),
    [
        ((0,), 3, 0),
        ((0, EVERY), EVERY + 1, 0),  # the newest may carry the divergence already
        ((0, EVERY), 2 * EVERY - 1, 0),
        ((0, EVERY), 2 * EVERY, EVERY),
        ((0, EVERY, 2 * EVERY), 3 * EVERY - 1, EVERY),
        ((300, 400), 450, 300),  # of a stage that has just begun: the oldest there is
    ],
)
def test_it_goes_back_to_the_newest_that_proved_healthy(
    tmp_path: Path, iterations: tuple[int, ...], failed: int, expected: int
) -> None:
    tensors, progress = ring(tmp_path, *iterations).go_back(failed)
    assert tensors["at"].item() == progress["iteration"] == expected
    assert max(kept(tmp_path)) == expected  # those that followed are of no use any more


def test_three_are_kept(tmp_path: Path) -> None:
    ring(tmp_path, 0, EVERY, 2 * EVERY, 3 * EVERY, 4 * EVERY)
    assert kept(tmp_path) == [2 * EVERY, 3 * EVERY, 4 * EVERY]


def test_a_training_can_go_back_further_each_time(tmp_path: Path) -> None:
    snapshots = ring(tmp_path, 0, EVERY, 2 * EVERY)
    found = [snapshots.go_back(at)[1]["iteration"] for at in (3 * EVERY, 3 * EVERY - 1, 2 * EVERY - 1, 1)]
    assert found == [2 * EVERY, EVERY, 0, 0]


def test_another_stage_forgets_those_before(tmp_path: Path) -> None:
    snapshots = ring(tmp_path, 0, EVERY, EVERY + 51)
    snapshots.keep_newest()
    assert kept(tmp_path) == [EVERY + 51]
    assert snapshots.go_back(EVERY + 52)[1]["iteration"] == EVERY + 51


def test_they_outlive_the_process(tmp_path: Path) -> None:
    ring(tmp_path, 0, EVERY)
    assert Snapshots(tmp_path).go_back(2 * EVERY)[1] == {"iteration": EVERY}
