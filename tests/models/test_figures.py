from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from models.training.figures import curves, draw_training, save_sheet

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
