"""Trainings of cGML for a GPU run on a CPU as well, and what they write can be served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.device_cgml import Recipe, Run, move, shipped, train
from models.data.npz import read_npz
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


def test_pairs_are_moved_for_the_product_s_own_training(tmp_path: Path) -> None:
    """Two pairs: these, and moved seven times."""
    random = np.random.default_rng(1)

    def pictures(*shape: int) -> np.ndarray[Any, Any]:
        return random.integers(0, 256, shape, np.uint8)

    names = {"id_train": np.array(["1F600", "1F697", "1F1E6"]), "subgroup_train": np.array(["face", "car", "flag"])}
    fluent = {f"images_{s}": pictures(2, 64, 64, 3) for s in ("train", "valid", "test")}
    fluent |= {f"conditions_{s}": pictures(2, 64, 64) for s in ("train", "valid", "test")}
    sets = {
        "emoji": {f"{side}_train": pictures(3, 3, 64, 64) for side in ("images", "conditions")} | names,
        "fluent": fluent,
    }
    for name, arrays in sets.items():
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / f"{name}.npz", **arrays)
    move(tmp_path, tmp_path / "moved.npz")
    found = read_npz(tmp_path / "moved.npz")
    assert {split: len(data) for split, data in found.items()} == {"train": 16, "valid": 2, "test": 2}
    assert np.array_equal(found["train"].images[:2].permute(0, 2, 3, 1).numpy(), fluent["images_train"])
    assert np.array_equal(found["test"].images.permute(0, 2, 3, 1).numpy(), fluent["images_test"])
