from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.data.images import to_uint8
from models.systems.registry import VARIANTS
from models.training.curves import Headings, meaning
from models.training.figures import curves, draw_training, portrait, save_sheet, sheet, smoothed
from tests.models.zoo import ZOO

LINES = [
    {"iteration": 25, "seconds": 1.0, "gap": 0.5, "f_data": 2.0},
    {"iteration": 30, "warning": "undone"},
    {"iteration": 50, "seconds": 2.0, "gap": 0.25, "f_data": 3.0},
    {"iteration": 50, "kid": 0.1},
]


def test_curves_have_every_metric_where_it_was_measured() -> None:
    assert curves(LINES) == {
        "gap": [(25, 0.5), (50, 0.25)],
        "f_data": [(25, 2.0), (50, 3.0)],
        "kid": [(50, 0.1)],
    }


def test_a_metric_that_was_measured_once_is_drawn_beside_the_others(tmp_path: Path) -> None:
    samples = save_sheet(torch.zeros(2, 2, 1, 8, 8), tmp_path / "00000050.png")

    def drawn(lines: list[dict[str, object]]) -> np.ndarray:
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        draw_training(tmp_path / "metrics.jsonl", samples, tmp_path / "figure.png")
        with Image.open(tmp_path / "figure.png") as picture:
            return np.asarray(picture.convert("RGB")).astype(int)

    whole, without = drawn(LINES), drawn(LINES[:-1])
    assert whole.shape == without.shape  # a row of three panels
    assert np.abs(whole - without).max() > 200


def test_nothing_is_drawn_of_a_training_that_measured_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    draw_training(tmp_path / "metrics.jsonl", None, tmp_path / "figure.png")
    assert not (tmp_path / "figure.png").exists()


def test_curves_are_smoothed_without_being_bent_at_the_ends() -> None:
    assert smoothed([3.0] * 50) == pytest.approx([3.0] * 50)
    assert smoothed([1.0, 2.0, 4.0]) == pytest.approx([1.0, 2.0, 4.0])  # few points stay as they are
    noisy = [(-1.0) ** k for k in range(100)]
    assert np.abs(smoothed(noisy)).max() < 0.25


@pytest.mark.parametrize("name", ZOO)
def test_every_metric_and_sheet_of_a_variant_is_explained(name: str) -> None:
    tiny = ZOO[name]
    variant, trainer, card = VARIANTS[tiny.variant], tiny.trainer(), tiny.card()
    unexplained = [metric for metric in trainer.step(0, 1.0, 0) if not meaning(variant.curves, metric).good]
    assert unexplained == [], "say in the variant's `curves` what they are and which way is good"
    config = variant.config.model_validate(card["config"])
    headings, images = variant.headings(config, card["classes"] or []), trainer.samples()
    assert headings != Headings()
    assert sum(count for _, count in headings.columns) in (0, images.shape[1])
    assert len(headings.rows) in (0, images.shape[0])
    made = images[headings.made[0], headings.made[1]].flatten(0, 1)
    first = np.asarray(portrait(images, headings))[: made.shape[-2], : made.shape[-1]]
    assert np.array_equal(first.squeeze(), to_uint8(made[0]).permute(1, 2, 0).numpy().squeeze())


def test_a_portrait_shows_what_is_made_and_nothing_that_was_given() -> None:
    images = torch.linspace(-1, 1, 12)[:, None, None, None].expand(12, 1, 2, 2).unflatten(0, (4, 3))
    shown = np.asarray(portrait(images, Headings((("given", 1), ("made", 2)), made=(slice(None), slice(1, None)))))
    made = to_uint8(images[:, 1:]).flatten(0, 1)
    assert shown.shape == (4, 4)
    assert [shown[y, x] for y in (0, 2) for x in (0, 2)] == [made[k].unique().item() for k in (0, 2, 4, 6)]
    assert portrait(images[:1], Headings(made=(slice(None), slice(2, None)))).size == (2, 2)  # a single one


def test_a_metric_of_a_part_is_what_it_is_of_the_whole() -> None:
    known = VARIANTS["cfebm/translation"].curves
    assert meaning(known, "A.gap").label == f"A: {known['gap'].label}"
    assert meaning(known, "kid").good == "lower is better"
    assert meaning(known, "odd_name").label == "odd name"


def test_titles_have_their_accents() -> None:
    images = torch.zeros(2, 1, 1, 8, 8)
    shown = [np.asarray(sheet(images, Headings((), (title, "")))) for title in ("é", "ü", "e", "\u0416")]
    assert all(not np.array_equal(a, b) for k, a in enumerate(shown) for b in shown[:k])  # no two are one box


def test_headings_stand_above_and_beside_the_pictures() -> None:
    images = torch.full((2, 3, 1, 8, 8), -1.0)
    bare = np.asarray(sheet(images))
    headed = np.asarray(sheet(images, Headings((("left", 1), ("two more of them", 2)), ("a", "été"))))
    top, left = headed.shape[0] - bare.shape[0], (headed == 0).any(0).argmax()
    assert top > 10
    assert left < 10  # letters of the rows' titles
    assert (headed[:top] < 128).sum() > 20
    assert any(  # the pictures themselves are as they were
        np.array_equal(headed[top:, x : x + bare.shape[1]], bare) for x in range(headed.shape[1] - bare.shape[1] + 1)
    )
