"""The scripts for a GPU run on a CPU, too, with small budgets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import device_gan
from benchmarks.device import Shipped, jobs, steps
from benchmarks.device_training import RECIPES, Drawings, Holes, Run, Trainer, train
from models.checkpoints import load_model, read_card
from models.systems.aishmc.config import Config
from models.systems.aishmc.model import generator_of
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.images.networks import PairSolver, unet
from models.systems.weights import fill

CPU = torch.device("cpu")
CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "fashion-ccoopnets" / "1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("noto", "twemoji"):
        pictures = {split: random.integers(0, 256, (3, 4, 64, 64), np.uint8) for split in ("train", "valid")}
        np.savez(tmp_path / f"{name}.npz", **pictures)
    pairs = {f"images_{split}": random.integers(0, 256, (3, 64, 64, 3), np.uint8) for split in ("train", "valid")}
    lines = {f"conditions_{split}": random.integers(0, 256, (3, 64, 64), np.uint8) for split in ("train", "valid")}
    np.savez(tmp_path / "fluent.npz", **pairs, **lines)
    return tmp_path


@pytest.mark.parametrize("recipe", ["colour-spectral", "fill-supervised"])
def test_a_recipe_makes_a_model_that_the_loader_takes(recipe: str, folder: Path, tmp_path: Path) -> None:
    data = Drawings(folder, CPU) if recipe.startswith("colour") else Holes(folder, CPU, masks=8)
    run = Run(recipe, Trainer(RECIPES[recipe], data, 4, CPU))
    train([run], 0.01, 1, lambda run, mark: run.trainer.export(tmp_path / "model.safetensors"))
    assert run.iteration == 1
    assert run.valid["1"]["psnr_0"] > 0
    config = ImageConfig.model_validate(run.trainer.config.model_dump(mode="json"))
    fill({"initializer": unet(config), "solver": PairSolver(config)}, load_file(tmp_path / "model.safetensors"))


def test_a_gan_of_fixed_seconds_makes_a_model_that_the_loader_takes(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 12, 12), np.uint8)
    np.savez(tmp_path / "grey.npz", images=pictures)
    small = ["--latent", "4", "--base", "16", "--most", "4", "--batch", "2", "--coarse-batch", "2", "--seconds", "1"]
    given = ["--preset", "tiny", "--data", str(tmp_path / "grey.npz"), "--out", str(tmp_path), "--device", "cpu"]
    device_gan.main([*given, *small])
    found = device_gan.result(tmp_path / "gan.safetensors", "100")
    config = Config.model_validate(found.facts["config"])
    assert config.image_size == 12
    assert config.training.iterations == found.facts["log"][-1]["iteration"] >= 4
    assert sum(level.fade + level.stable for level in config.levels) == pytest.approx(
        found.facts["log"][-1]["kimg"], abs=0.01
    )
    fill({"generator": generator_of(config)}, found.tensors)


def test_a_shipped_model_is_measured() -> None:
    shipped = Shipped("fashion-ccoopnets", CHECKPOINT, read_card(CHECKPOINT), load_model(CHECKPOINT, CPU), CPU)
    _, figures = next(jobs(shipped, repeats=2))
    assert figures["most of 255"] == 0
    assert figures["repeated with the same bits"]
    rows, times = next(steps(shipped, seconds=0.01))
    assert rows == "1 rows"
    assert times["eager"] > 0
