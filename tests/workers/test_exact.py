from __future__ import annotations

import itertools

import torch

from models.loop import Rows
from models.noise import Noise
from workers.exact import agreeing_sizes, candidate_sizes


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


def test_a_row_by_row_kernel_agrees_at_every_size() -> None:
    assert agreeing_sizes(doubled, example(), 16) == tuple(candidate_sizes(16))


def test_sizes_that_differ_are_found() -> None:
    sizes = agreeing_sizes(size_dependent, example(), 16)
    assert set(candidate_sizes(16)) - set(sizes) == {1, 3}


def test_a_kernel_that_looks_at_its_neighbours_agrees_nowhere() -> None:
    assert agreeing_sizes(neighbourly, example(), 16) == ()
