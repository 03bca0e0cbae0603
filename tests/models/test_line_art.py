"""Line art made from coloured pictures."""

from __future__ import annotations

import torch

from models.data.line_art import strokes, synthesize, transformed


def square() -> torch.Tensor:
    """A red square on white, opaque."""
    stack = torch.cat([torch.ones(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)], 1)
    stack[:, 1:3, 8:24, 8:24] = 0.0
    stack[:, 3, 8:24, 8:24] = 1.0
    return stack


def test_strokes_run_along_the_rim_and_nowhere_else() -> None:
    fine = torch.nn.functional.interpolate(square(), scale_factor=2)
    ink = strokes(fine, torch.tensor([[0.5, 0.0, 0.0, 0.0, 1.0, 0.0]]))[0, 0]
    assert ink[8, 12:20].min() > 0.4
    assert ink[12:20, 8].min() > 0.4
    assert ink[12:20, 12:20].max() == 0
    assert ink[:5].max() == 0


def test_what_is_dark_in_the_picture_may_be_solid_ink() -> None:
    fine = torch.nn.functional.interpolate(square(), scale_factor=2)
    fine[:, 0, 16:48, 16:48] = 0.0
    ink = strokes(fine, torch.tensor([[0.5, 0.0, 0.0, 0.0, 0.1, 0.0]]))[0, 0]
    assert ink[10:22, 10:22].min() == 1


def test_drawing_and_picture_share_their_lines_and_the_white_ground() -> None:
    torch.manual_seed(0)
    picture, drawing = synthesize(square().expand(16, -1, -1, -1), 32)
    assert picture.shape == (16, 3, 32, 32)
    assert drawing.shape == (16, 1, 32, 32)
    assert (picture <= drawing + 1e-6).all()
    assert (drawing.flatten(1).amin(1) < 0.7).all(), "every drawing has ink"
    assert drawing.flatten(1).mean(1).min() > 0.5, "and is mostly ground"


def test_whole_shifts_keep_pixels_as_they_are() -> None:
    u = torch.tensor([[0.9, 0.5, 0.5, 0.9, 0.5 + 3 / 13, 0.5]])
    stack = torch.rand(1, 3, 32, 32)
    moved = transformed(stack, share=0.0, size=32, mode="bicubic", u=u, ground=torch.ones(3, 1, 1))
    assert torch.allclose(moved[..., :29], stack[..., 3:], atol=1e-4)
