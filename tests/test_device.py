"""The scripts for a GPU run on a CPU, too, with small budgets."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import decoders, device_coopflow, device_gan
from benchmarks.device_against import HERE, compare
from benchmarks.device_models import Shipped
from benchmarks.device_times import steps
from benchmarks.device_trainers import training
from benchmarks.device_training import RECIPES, Drawings, Holes, Run, Trainer, train
from benchmarks.device_truth import jobs, repeated
from models.checkpoints import load_model, read_card
from models.systems.aishmc.config import Config
from models.systems.aishmc.model import generator_of
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.images.networks import PairSolver, unet
from models.systems.weights import fill
from tests.models.zoo import ZOO, tiny_model

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "checkpoints" / "fashion-ccoopnets" / "1"


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


def test_a_pair_and_a_flow_in_turns_make_models_that_the_loader_takes(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    np.savez(tmp_path / "fashion.npz", images_train=pictures)
    out, models = tmp_path / "out", tmp_path / "models"
    given = ["--data", str(tmp_path), "--out", str(out), "--tar", str(tmp_path / "all.tar"), "--device", "cpu"]
    device_coopflow.main(["--recipe", "toy", "toy-flow", *given, "--seconds", "1", "--images", "2"])
    with tarfile.open(tmp_path / "all.tar") as archive:
        assert {f"toy{kind}" for kind in (".json", ".npz", ".safetensors", "-flow.json")} <= set(archive.getnames())
    for recipe, refines in (("toy", True), ("toy-flow", False)):
        what = ["--publish", f"a-{recipe}", "--of", recipe, "--images-of", "fashion-mnist"]
        device_coopflow.main([*what, "--out", str(out), "--models", str(models)])
        model = load_model(models / f"a-{recipe}" / "1", CPU)
        assert model.card["tasks"]["generate"]["defaults"]["refine"] is refines
        assert model.card["training"]["iterations"] >= 1


def test_a_gan_of_fixed_seconds_makes_a_model_that_the_loader_takes(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (40, 12, 12), np.uint8)
    np.savez(tmp_path / "grey.npz", images_train=pictures)
    small = ["--latent", "4", "--base", "16", "--most", "4", "--batch", "2", "--coarse-batch", "2", "--seconds", "1"]
    given = ["--preset", "tiny", "--data", str(tmp_path / "grey.npz"), "--out", str(tmp_path), "--device", "cpu"]
    device_gan.main([*given, *small])
    found = device_gan.result(tmp_path / "gan.safetensors", "100")
    config = Config.model_validate(found.facts["config"])
    assert config.image_size == 12
    assert config.training.iterations >= found.facts["log"][-1]["iteration"] > 0
    assert sum(level.fade + level.stable for level in config.levels) == pytest.approx(
        found.facts["log"][-1]["kimg"], abs=0.01
    )
    fill({"generator": generator_of(config)}, found.tensors)


def test_completions_of_a_decoder_are_compared_at_equal_gradients(tmp_path: Path) -> None:
    """The initializer of a CCoopNets, told the class of each image."""
    random = np.random.default_rng(0)
    classes = np.array(json.loads((CHECKPOINT / "card.json").read_text(encoding="utf-8"))["classes"])
    data: dict[str, np.ndarray] = {"classes": classes}
    for split in ("train", "valid", "test"):
        data[f"images_{split}"] = random.integers(0, 256, (20, 28, 28), np.uint8)
        data[f"labels_{split}"] = np.arange(20) % 10
    np.savez(tmp_path / "grey.npz", **data)
    given = ["--model", str(CHECKPOINT), "--data", str(tmp_path / "grey.npz"), "--images", "2", "--factors", "4"]
    small = ["--temperatures", "2", "--leapfrogs", "2", "--starts", "16", "--step-sizes", "row"]
    decoders.main([*given, *small, "--out", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert set(found) == {"sigma", "hole", "upscale 4"}
    for split in ("train", "test"):
        one = found["hole"][split]
        assert one["gradients"] == 5
        difference = one["gd_multi"]["mse"]["value"] - one["ais_hmc"]["mse"]["value"]
        assert one["paired"]["gd_multi"]["value"] == pytest.approx(difference, abs=2e-5)


@pytest.mark.parametrize("name", ["ccoopnets", "cfebm-translate"])
def test_iterations_of_trainings_are_measured(name: str) -> None:
    """On random images, of classes or of two domains."""
    card, model = ZOO[name].card(), tiny_model(name)
    found = dict(training(Shipped(name, CHECKPOINT, card, model, CPU), seconds=0.01))
    assert found["eager"] > 0


def test_an_older_checkout_is_compared_in_turns(tmp_path: Path) -> None:
    order: list[Path] = []

    def measure(checkout: Path, folder: Path) -> dict[str, float]:
        assert list(folder.iterdir()) == []
        order.append(checkout)
        return {"jobs": 1.06, "new": 1.0, "same": 2.0} if checkout == HERE else {"jobs": 1.0, "same": 2.0}

    report = compare(tmp_path, 0, {"engine": measure})
    assert order == [tmp_path, HERE, HERE, tmp_path, tmp_path, HERE]
    assert report["rounds"] == 3
    assert report["medians"] == {"engine: jobs": 1.06, "engine: same": 1.0}
    assert report["slower"] == ["engine: jobs"]


WITHOUT = """
import sys
sys.modules |= dict.fromkeys(sys.argv[1].split(","))  # an import of these fails
import benchmarks.device
"""
ABSENT = (
    "PIL", "celery", "click", "fastapi", "fsspec", "httpx", "lightning_fabric", "lightning_utilities", "matplotlib",
    "pydantic_settings", "redis", "resvg_py", "torchmetrics", "tqdm", "trimesh",
)  # fmt: skip


def test_the_script_needs_four_libraries() -> None:
    """torch, numpy, safetensors and pydantic: a lent machine may have no others."""
    given = [sys.executable, "-c", WITHOUT, ",".join(ABSENT)]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_a_shipped_model_is_measured() -> None:
    shipped = Shipped("fashion-ccoopnets", CHECKPOINT, read_card(CHECKPOINT), load_model(CHECKPOINT, CPU), CPU)
    _, figures = next(jobs(shipped))
    assert figures["most of 255"] == 0
    assert dict(repeated(shipped, repeats=3))["equal to the first, of 2"] == 2
    rows, times = next(steps(shipped, seconds=0.01, lengths=(2, 8)))
    assert rows == "1 rows"
    assert times["quiet"]["eager"] > 0
    assert times["noisy"]["engine"] > 0
