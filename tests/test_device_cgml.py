"""Trainings of cGML for a GPU run on a CPU as well, and what they write can be served."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.device_cgml import Recipe, Run, shipped, train
from models.systems.cgml.images.model import Cgml, load
from tests.models.zoo import CPU, pairs


def test_a_model_and_its_twin_are_trained_and_written(tmp_path: Path) -> None:
    recipe = Recipe("tiny", lambda folder, device: pairs().fit(16), {"batch_size": 2, "descents": 1})
    data = recipe.data(tmp_path, CPU)
    runs = [
        Run("some", recipe, data, {}, 1, CPU),
        Run("some-l1", recipe, data, {"deterministic": True}, 1, CPU),
    ]
    marks: list[float] = []

    def save(one: Run, mark: float) -> None:
        marks.append(mark)
        one.save(tmp_path, mark, {"device": "cpu"})

    train(runs, 0.5, save)
    assert marks[-2:] == [1.0, 1.0]
    twin = load_file(tmp_path / "some-l1.safetensors")
    assert not any(name.startswith("predictor.") for name in twin)
    for name in ("some", "some-l1"):
        card, tensors = shipped(tmp_path, name)
        assert card["training"]["iterations"] == json.loads((tmp_path / f"{name}.json").read_text())["iterations"]
        model = load({**card, "calibration": {}}, tensors, torch.device("cpu"))
        assert isinstance(model, Cgml)
        assert "translate" in card["tasks"]
