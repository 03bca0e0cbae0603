"""The models that ship: their cards are true, their images are what was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import coopserve
from models.checkpoints import WEIGHTS, load_model, read_card, sha256
from models.core.model import LoadedModel
from models.core.rows import MAX_STEPS
from models.data.images import ImageData, to_float
from models.evaluation.jobs import defaults_of
from models.evaluation.labels import sampler
from models.metrics.classifier import Classifier, accuracy
from service.contract.catalog import Catalog
from service.contract.jobs import TASKS
from tests.models.zoo import generate_job
from workers.engine.engine import Engine
from workers.engine.sizes import probe
from workers.jobs.pictures import png

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "checkpoints").glob("*/*/card.json"))
FASHION = ROOT / "checkpoints" / "fashion-ccoopnets" / "1"


def test_fashion_ccoopnets_ships() -> None:
    assert FASHION in FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_the_card_is_whole(folder: Path) -> None:
    card = Catalog([ROOT / "checkpoints"]).get(f"{folder.parent.name}@{folder.name}")
    assert card.files[WEIGHTS].sha256 == sha256(folder / WEIGHTS)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16 * 2**20
    assert card.title
    assert card.description
    assert card.license
    assert card.notice
    assert card.known_weaknesses
    scripts = ("benchmarks.device_training", "benchmarks.device_gan", "benchmarks.device_labels")
    commands = ("coopserve train ", *(f"python -m {script} " for script in scripts))
    assert card.training["command"].startswith(commands)
    assert {"data", "wall_seconds", "seed", "versions", "iterations"} <= card.training.keys()
    assert card.metrics


@pytest.mark.parametrize("task", ["generate", "translate", "inpaint", "denoise"])
def test_the_chains_of_a_model_bear_the_steps_that_its_card_allows(task: str) -> None:
    """With the picture of the task's own example; `benchmarks.steps` measures it with many."""
    name, fields = TASKS[task].example["model"], {"n": 1, "seed": 1}
    example = {key: value for key, value in TASKS[task].example.items() if key not in ("model", "steps", "n", "seed")}
    model = coopserve.load(name, device="cpu")
    limits = model.card.tasks[task].limits
    made = model.run(task, steps=limits.max_steps, **fields, **example)
    assert limits.trained_steps <= limits.max_steps <= MAX_STEPS
    assert len(made.pictures) == 1


def test_fashion_ccoopnets_measures_as_promised() -> None:
    metrics = read_card(FASHION)["metrics"]
    proposal, refined = metrics["proposal"], metrics["refined"]
    assert refined["accuracy"] >= 0.92
    assert refined["accuracy"] >= proposal["accuracy"]
    assert refined["kid"] <= proposal["kid"]
    assert refined["parzen_log_likelihood"] >= proposal["parzen_log_likelihood"]


@pytest.fixture(scope="module")
def fashion() -> LoadedModel:
    return load_model(FASHION, torch.device("cpu"))


def make(model: LoadedModel, per_class: int, refine: bool = True) -> tuple[Tensor, Tensor]:
    card = read_card(FASHION)
    labels = torch.arange(10).repeat(per_class)
    return sampler(model, card["classes"], defaults_of(card["tasks"]["generate"]))(labels, 1, refine), labels


def test_a_classifier_that_saw_only_real_images_recognises_the_classes(
    fashion: LoadedModel, sample: Mapping[str, ImageData], judge: Classifier
) -> None:
    real = sample["test"]
    assert real.labels is not None
    on_real = accuracy(judge, to_float(real.images), real.labels)
    images, labels = make(fashion, 10)
    assert on_real > 0.6
    assert accuracy(judge, images, labels) > on_real - 0.1


def test_there_is_no_checkerboard(fashion: LoadedModel, sample: Mapping[str, ImageData]) -> None:
    """The strength of the pattern that stride 2 would print, against that of real images."""

    def at_nyquist(images: Tensor) -> float:
        spectrum = torch.fft.fft2(images[:, 0]).abs().square()
        half = images.shape[-1] // 2
        lines = torch.cat([spectrum[:, half, 1:], spectrum[:, 1:, half]], 1)
        return (lines.mean() / spectrum[:, 1:, 1:].mean()).item()

    images, _ = make(fashion, 10)
    real = to_float(sample["test"].images)
    assert at_nyquist(images) < 3 * at_nyquist(real)


def test_fixed_seeds_give_equal_png_bytes_alone_and_in_company(fashion: LoadedModel) -> None:
    engine = Engine(max_rows=32, threads=2)
    sizes = probe(fashion.kernels.examples(), engine.max_rows)
    assert all(sizes.values()), "no batch sizes agree on this machine"
    engine.pad_to(sizes)
    engine.start()
    classes: Any = read_card(FASHION)["classes"]

    def files(seed: int, n: int) -> Any:
        job = generate_job(n=n, seed=seed, steps=10, noise=0.0, label={classes[seed % 10]: 1.0})
        return engine.submit(fashion.start("generate", job))

    alone = [[png(image) for image in files(seed, 1 + seed % 3).result().images] for seed in range(5)]
    tickets = [files(seed, 1 + seed % 3) for seed in range(40)]
    crowd = [[png(image) for image in ticket.result().images] for ticket in tickets]
    engine.stop()
    assert crowd[:5] == alone
    assert len({data for images in crowd for data in images}) == sum(1 + seed % 3 for seed in range(40))
