from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.core.loop import Rows
from models.core.noise import Noise
from workers.engine.exact import Agreement, ClosedError, KnownSizes, Subject, agreement, candidate_sizes, few_sizes


def doubled(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {"x": rows["x"] * 2 + noise.normal(4)}


def size_dependent(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """Like a library that treats sizes 1 and 3 in another way."""
    return {"x": rows["x"] + (1e-8 if len(t) in (1, 3) else 0)}


def neighbourly(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {"x": rows["x"] - rows["x"].mean()}


def example() -> Rows:
    return {"x": torch.full((1, 4), 0.1, dtype=torch.float64)}


def test_candidates_hold_the_small_sizes_and_the_full_one() -> None:
    sizes = candidate_sizes(32)
    assert sizes[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sizes[-1] == 32
    assert all(after / before <= 1.25 or before < 8 for before, after in itertools.pairwise(sizes))


def test_few_sizes_are_the_powers_of_two_and_the_full_one() -> None:
    assert few_sizes(32) == [1, 2, 4, 8, 16, 32]
    assert few_sizes(20) == [1, 2, 4, 8, 16, 20]
    assert few_sizes(1) == [1]


def test_a_row_by_row_kernel_agrees_at_every_size() -> None:
    assert agreement(doubled, example(), candidate_sizes(16)).sizes == tuple(candidate_sizes(16))


def test_sizes_that_differ_are_found() -> None:
    sizes = agreement(size_dependent, example(), candidate_sizes(16)).sizes
    assert set(candidate_sizes(16)) - set(sizes) == {1, 3}


def test_a_kernel_that_looks_at_its_neighbours_agrees_nowhere() -> None:
    assert agreement(neighbourly, example(), candidate_sizes(16)) == Agreement()


def test_what_was_found_out_is_known_the_next_time(tmp_path: Path) -> None:
    calls: list[int] = []

    def counting(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        calls.append(len(t))
        return rows

    def other(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        return {"x": rows["x"] + len(t)}  # no two sizes agree

    kernels = [(counting, {"x": torch.ones(1, 2)}), (other, {"x": torch.ones(1, 2)})]
    model = Subject(b"model", kernels, 4, torch.device("cpu"))
    folder = tmp_path / "exact"
    assert KnownSizes(folder).try_few(model) == {counting: Agreement((1, 2, 4)), other: Agreement((4,))}
    assert KnownSizes(folder).look(model) is None  # few sizes are not noted
    pauses: list[None] = []
    found = KnownSizes(folder).try_all(model, lambda: pauses.append(None))
    assert found == {counting: Agreement((1, 2, 3, 4)), other: Agreement((4,))}
    assert len(pauses) > 8
    tried = len(calls)
    assert KnownSizes(folder).look(model) == found
    assert len(calls) == tried
    for changed in (
        replace(model, identity=b"another"),
        replace(model, max_rows=5),
        replace(model, kernels=kernels[:1]),
    ):
        assert KnownSizes(folder).look(changed) is None
    for file in folder.iterdir():
        file.write_text("[[1")
    assert KnownSizes(folder).look(model) is None
    (tmp_path / "file").touch()  # no folder: it is found out each time
    assert KnownSizes(tmp_path / "file").try_all(model, lambda: None) == found
    assert KnownSizes(tmp_path / "file").look(model) is None


def test_nothing_more_is_tried_once_the_worker_closes() -> None:
    known = KnownSizes(Path("nowhere"))
    model = Subject(b"model", [(doubled, example())], 16, torch.device("cpu"))
    with pytest.raises(ClosedError):
        known.try_all(model, known.closing.set)
