"""Swap margins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.metrics.margins import different_pairs, swap_margins

Y = torch.tensor([[1.0, 2.0, -1.0], [3.0, 2.0, 4.0]])
C = torch.tensor([[0.0, 1.0, 2.0], [1.0, 3.0, 0.0]])


def test_by_hand() -> None:
    """f = y c gives (y1 - y2) (c1 - c2)."""
    margins = swap_margins(lambda y, c: y * c, Y, C)
    torch.testing.assert_close(margins, torch.tensor([2.0, 0.0, -10.0]))


def test_what_depends_on_image_or_condition_alone_cancels() -> None:
    def value(y: Tensor, c: Tensor) -> Tensor:
        return y * c + 100 * c.square() - 7 * y.exp()

    torch.testing.assert_close(swap_margins(value, Y, C), torch.tensor([2.0, 0.0, -10.0]), atol=1e-3, rtol=0)


def test_pairs_have_different_labels_and_are_fixed_by_their_seed() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 2])
    pairs = different_pairs(labels, 50, seed=1)
    assert pairs.shape == (2, 50)
    assert bool((labels[pairs[0]] != labels[pairs[1]]).all())
    assert torch.equal(pairs, different_pairs(labels, 50, seed=1))
    assert not torch.equal(pairs, different_pairs(labels, 50, seed=2))
    with pytest.raises(ValueError, match="two labels"):
        different_pairs(torch.zeros(4), 3, seed=1)
