from __future__ import annotations

import pytest
import torch

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from workers.engine.sizes import probe, tried_sizes


def doubled(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {"x": rows["x"] * 2 + noise.normal(*rows["x"].shape[1:])}


def size_dependent(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """Like a library that treats sizes 1 and 4 in another way."""
    return {"x": rows["x"] + (1e-8 if len(t) in (1, 4) else 0)}


def seldom(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """Like a library whose sums for a lone row are others, which shows in some rows only."""
    alone = len(t) == 1 and rows["x"].sum() < 0.7
    return {"x": rows["x"] * 2 + (1e-8 if alone else 0)}


def neighbourly(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {"x": rows["x"] - rows["x"].mean()}


def counted(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {"x": rows["x"] + len(t)}


def test_four_sizes_to_the_octave_are_tried_and_the_full_batch() -> None:
    assert tried_sizes(32) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32]
    assert tried_sizes(18) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18]
    assert tried_sizes(1) == [1]


def test_on_a_gpu_they_are_powers_of_two() -> None:
    """Each is recorded as a graph of its own."""
    assert tried_sizes(256, "cuda") == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert tried_sizes(24, "cuda:1") == [1, 2, 4, 8, 16, 24]


def test_where_memory_is_short_the_full_batch_is_smaller() -> None:
    def wide(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        if len(t) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"x": rows["x"] * 2}

    example = {"x": torch.ones(1, 4)}
    assert probe([(wide, example)], 16) == {wide: (1, 2, 4)}
    with pytest.raises(torch.OutOfMemoryError):
        probe([(lambda rows, t, noise: wide(rows, torch.zeros(9), noise), example)], 16)


@pytest.mark.parametrize(
    ("kernel", "sizes"),
    [
        (doubled, (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)),
        (size_dependent, (2, 3, 5, 6, 7, 8, 10, 12, 14, 16)),
        (counted, (16,)),
        (neighbourly, ()),
    ],
)
def test_the_sizes_at_which_pictures_agree_with_a_full_batch_are_found(kernel: Kernel, sizes: tuple[int, ...]) -> None:
    example = {"x": torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).reshape(1, 1, 2, 2)}
    assert probe([(kernel, example)], 16) == {kernel: sizes}


@pytest.mark.parametrize(
    ("kernel", "sizes"),
    [
        (doubled, (1, 2, 4, 8, 16)),
        (size_dependent, (2, 8, 16)),
        (seldom, (2, 4, 8, 16)),
        (counted, (16,)),
        (neighbourly, ()),
    ],
)
def test_those_of_latent_vectors_are_powers_of_two(kernel: Kernel, sizes: tuple[int, ...]) -> None:
    example = {"x": torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)}
    assert probe([(kernel, example)], 16) == {kernel: sizes}
