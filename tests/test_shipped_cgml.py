"""The shipped models with several answers: their figures keep what was promised, and their answers what was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import coopserve
from coopserve.portraits import portrait
from models.checkpoints import read_card
from models.data.lab import to_lab

ROOT = Path(__file__).resolve().parents[1] / "checkpoints"


def drawing(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A face in grey, or in lines."""
    picture = Image.new("L", size, "white")
    pen, (w, h) = ImageDraw.Draw(picture), size
    pen.ellipse((w // 8, h // 8, w - w // 8, h - h // 8), 200, "black", max(1, w // 32))
    for x in (3, 5):
        pen.ellipse((x * w // 8 - w // 16, 3 * h // 8, x * w // 8 + w // 16, h // 2), "black")
    return picture


def light(picture: Image.Image) -> Tensor:
    """Its L*, ``[H, W]``."""
    values = torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    return to_lab(values)[0, 0]


def test_colourings_differ_and_keep_the_lightness_at_any_size() -> None:
    given = drawing((150, 100))
    model = coopserve.load("emoji-cgml", device="cpu")
    made = model.colorize(image=given, n=4, seed=1, restore=True, fit="contain")
    assert [picture.size for picture in made] == [given.size] * 4
    assert len({picture.tobytes() for picture in made}) == 4
    for picture in made:
        torch.testing.assert_close(light(picture), light(given), atol=0.5, rtol=0)


def test_a_portrait_has_no_options_of_other_methods() -> None:
    picture = portrait(coopserve.load("emoji-cgml", device="cpu"))
    assert picture is not None
    assert picture.width == picture.height


def figures(name: str) -> dict[str, Any]:
    """Those of a card; there are fewer than 500 test pictures, so it calls them doubtful."""
    found: dict[str, Any] = read_card(ROOT / name / "1")["metrics"]["doubtful"]
    return found


@pytest.mark.parametrize(("name", "plain"), [("emoji-cgml", "grey"), ("fluent-cgml", "copy")])
def test_several_answers_are_nearer_than_one_and_than_none(name: str, plain: str) -> None:
    metrics = figures(name)
    answers, twin = metrics["answers"], metrics[name.replace("cgml", "l1")]
    assert answers["l1_best"] < answers["l1_first"] < metrics[plain]["l1_first"]
    assert answers["psnr_of_average"] > twin["psnr_first"] - 0.5
    assert answers["diversity"] > twin["diversity"] == 0
    assert answers["sorted_diversity"] > 0


def test_the_first_colouring_is_nearer_than_grey() -> None:
    metrics = figures("emoji-cgml")
    assert metrics["answers"]["ab_l1_best"] < metrics["answers"]["ab_l1_first"] < metrics["grey"]["ab_l1_first"]
    assert metrics["answers"]["chroma"] > 0
