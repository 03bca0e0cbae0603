"""Masks of hidden pixels: how much they hide, what they look like, and what a row depends on."""

import pytest
import torch
from torch import Tensor

from models.data.holes import LEAST, MOST, holes


def _is_rectangle(mask: Tensor) -> bool:
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return bool(box.all())


def _is_centred_square(mask: Tensor) -> bool:
    size = len(mask)
    at = slice((size - size // 2) // 2, (size - size // 2) // 2 + size // 2)
    square = torch.zeros_like(mask)
    square[at, at] = 1
    return torch.equal(mask, square)


@pytest.mark.parametrize("size", [2, 3, 8, 28, 64])
def test_a_mask_hides_a_tenth_to_a_half_of_the_pixels(size: int) -> None:
    masks = holes(200, size, 7)
    assert masks.shape == (200, 1, size, size)
    assert masks.dtype == torch.float32
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    counts = masks.sum((1, 2, 3))
    assert counts.min() >= LEAST * size**2
    assert counts.max() <= MOST * size**2


def test_half_are_centred_squares_and_the_rest_are_rectangles_and_strokes() -> None:
    masks = holes(1000, 64, 0)[:, 0]
    centred = torch.tensor([_is_centred_square(mask) for mask in masks])
    rectangles = torch.tensor([_is_rectangle(mask) for mask in masks]) & ~centred
    assert centred.float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert rectangles.float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert (~(centred | rectangles)).float().mean().item() == pytest.approx(0.25, abs=0.05)
    for kind in (rectangles, ~(centred | rectangles)):
        shares = masks[kind].mean((1, 2))
        assert shares.mean().item() == pytest.approx((LEAST + MOST) / 2, abs=0.02)
        assert shares.std().item() == pytest.approx((MOST - LEAST) / 12**0.5, abs=0.02)  # uniform
        for axis in (1, 2):
            assert masks[kind].mean((0, axis)).min() > 0.02  # the edges of the image are hidden too


def test_a_stroke_is_in_one_piece() -> None:
    masks = holes(60, 32, 5)
    strokes = [m for m in masks if not _is_rectangle(m[0])]
    assert len(strokes) > 5
    for mask in strokes:
        reached = torch.zeros_like(mask)
        reached.view(-1)[int(mask.flatten().argmax())] = 1
        for _ in range(32 * 32):
            grown = torch.nn.functional.max_pool2d(reached[None], 3, 1, 1)[0] * mask
            if torch.equal(grown, reached):
                break
            reached = grown
        assert torch.equal(reached, mask)


def test_a_row_depends_on_the_seed_and_its_number_alone() -> None:
    masks = holes(20, 16, 3)
    assert torch.equal(masks, holes(20, 16, 3))
    assert torch.equal(masks[:4], holes(4, 16, 3))
    assert not torch.equal(masks, holes(20, 16, 4))
    assert holes(0, 16, 3).shape == (0, 1, 16, 16)


def test_an_image_of_one_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2x2"):
        holes(1, 1, 0)
