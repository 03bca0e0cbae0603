"""What the classical fillers of holes do, and how a rim is measured."""

from __future__ import annotations

import cv2
import pytest
import torch

from benchmarks.fillers import claims_of, mean_fill, measure, opencv, rim
from benchmarks.openmoji import lines_only
from models.data.holes import centred_square

MASK = centred_square(16).float()[None, None]


def test_fillers_continue_what_they_see() -> None:
    plain = torch.full((1, 3, 16, 16), 0.2)
    given = torch.where(MASK > 0, torch.zeros(()), plain)
    for fill in (mean_fill, opencv(cv2.INPAINT_TELEA), opencv(cv2.INPAINT_NS)):
        torch.testing.assert_close(fill(given, MASK), plain, atol=3 / 127, rtol=0)  # of 8-bit pictures
    halves = torch.cat([torch.full((1, 3, 16, 8), -1.0), torch.full((1, 3, 16, 8), 1.0)], 3)
    given = torch.where(MASK > 0, torch.zeros(()), halves)
    hidden = MASK[0, 0] > 0
    assert mean_fill(given, MASK)[0, :, hidden].abs().max() < 1e-6  # the mean of both colours
    filled = opencv(cv2.INPAINT_TELEA)(given, MASK)
    assert filled[0, 0, 8, 4] < -0.9  # nearest to the left half
    assert filled[0, 0, 8, 11] > 0.9


def test_a_rim_is_the_jump_into_the_hole() -> None:
    pictures = torch.where(MASK > 0, 0.5, -0.5).expand(2, 3, -1, -1)
    masks = MASK.expand(2, -1, -1, -1)
    assert rim(pictures, masks) == pytest.approx(1.0)
    assert rim(torch.zeros(2, 3, 16, 16), masks) == 0


def test_figures_and_claims() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = (torch.rand(10, 3, 16, 16, generator=generator) * 2 - 1).round(decimals=1)
    masks = MASK.expand(10, -1, -1, -1)
    perfect = {"mean of visible pixels": mean_fill, "Telea": mean_fill, "Navier-Stokes": mean_fill}
    rows = measure({**perfect, "refined, 1 steps": lambda given, masks: truth}, truth, masks, lambda x: x.flatten(1))
    assert rows["refined, 1 steps"]["psnr"] == 100
    assert rows["refined, 1 steps"]["rim"] == pytest.approx(1)
    assert rows["Telea"]["psnr"] < 15
    assert all(claim.met for claim in claims_of(rows))


def test_only_black_paint_is_kept() -> None:
    body = '<path fill="#FCEA2B" d="M1"/><path fill="none" stroke="#000" d="M2"/><path stroke="Black"/>'
    assert (
        lines_only(body) == '<path fill="none" d="M1"/><path fill="none" stroke="#000" d="M2"/><path stroke="Black"/>'
    )
