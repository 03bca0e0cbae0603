"""A configuration says which kind of data it learns from, and no other is accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from models.checkpoints import load_model
from models.data.catalog import read
from models.data.images import DataError
from models.data.kinds import one_set, two_domains
from models.data.unpaired import UnpairedData
from models.systems.registry import VARIANTS, system_of
from models.training.configuration import TrainingError, choose, configure
from models.training.plan import Plan
from models.training.training import Training
from tests.models.zoo import domains, images, pairs

SMALL = {"network.c": 1, "training.iterations": 2}


def save_domains(root: Path, **counts: int) -> Path:
    """Folders of noise, 32 pixels square: ``trainA=3`` and so on."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for k in range(count):
            generator = torch.Generator().manual_seed(1000 * number + k)
            pixels = torch.randint(0, 256, (32, 32, 3), generator=generator).to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(root / name / f"{k:03d}.png")
    return root


def test_every_preset_names_its_kind() -> None:
    kinds = {
        (system_of(name), preset): variant.data for name, variant in VARIANTS.items() for preset in variant.presets
    }
    assert {key for key, kind in kinds.items() if kind == "domains"} == {
        ("cfebm", "small-translate"),
        ("cfebm", "paper-i2i-256"),
    }
    assert set(kinds.values()) == {"images", "domains"}


def test_no_setting_changes_the_kind() -> None:
    with pytest.raises(TrainingError, match="task: Input should be 'generate'"):
        choose("cfebm/generation", "tiny", {"growth": "single", "task": "translate"})


def test_data_are_read_as_the_kind_that_is_asked_for(tmp_path: Path) -> None:
    folder = save_domains(tmp_path / "horses", trainA=4, trainB=6, testA=1, testB=1)
    data = read("domains", str(folder), "test", tmp_path)
    assert isinstance(data, UnpairedData)
    turned = read("domains", str(folder), "test", tmp_path, direction="BtoA", image_size=16, channels=1)
    assert (turned.name, turned.shape) == ("horses/test/BtoA", (1, 16, 16))
    with pytest.raises(DataError, match="for systems that translate without them"):
        read("images", str(folder), "train", tmp_path)
    with pytest.raises(DataError, match="has no two domains; give aligned pairs"):
        read("domains", "tests/data/fashion-sample.npz", "train", tmp_path)


@pytest.mark.parametrize(
    ("system", "preset", "data", "reason"),
    [
        ("cfebm", "tiny", domains(), "one set of images is wanted: choose a preset that translates without pairs"),
        ("ccoopnets", "small", domains(), "one set of images is wanted"),
        ("ccoopnets", "small-emoji", domains(), "one set of images is wanted"),
        ("cfebm", "small-translate", images(), "random is one set of images, but two domains without pairs are wanted"),
        ("cfebm", "small-translate", pairs(), "read aligned pairs as domains"),
    ],
)
def test_another_kind_is_refused(system: str, preset: str, data: Any, reason: str) -> None:
    with pytest.raises(TrainingError, match=reason):
        configure(system, preset, data, {})


def test_a_trainer_refuses_another_kind_as_well() -> None:
    config = configure("cfebm", "small-translate", domains(), SMALL)
    with pytest.raises(DataError, match="two domains without pairs are wanted"):
        VARIANTS["cfebm/translation"].trainer(config, pairs(), 0, torch.device("cpu"))
    assert one_set(pairs()).name == "pairs"
    assert two_domains(domains()).name == "pairs"


def blocks(pictures: torch.Tensor) -> torch.Tensor:
    """Means of small blocks, in place of a network."""
    return torch.nn.functional.avg_pool2d(pictures, 8).flatten(1)


def test_a_training_on_two_domains_ends_in_a_model_that_says_so(tmp_path: Path) -> None:
    data = read("domains", str(save_domains(tmp_path / "horses", trainA=8, trainB=5)), "train", tmp_path)
    config = configure("cfebm", "small-translate", data, {**SMALL, "source": "horse", "target": "zebra"})
    cpu, variant = torch.device("cpu"), "cfebm/translation"
    plan = Plan(variant, config, data, "horses", 3, cpu, "coopserve train ...", features=blocks)
    training = Training(plan, tmp_path / "run")
    assert training.run()
    folder = training.publish(tmp_path / "models")
    card = json.loads((folder / "card.json").read_text())
    assert card["classes"] == ["horse", "zebra"]
    assert card["training"]["data"] == {"name": data.name, "images": len(data), "sha256": data.sha256()}
    assert card["training"]["published"]["iteration"] == 2
    assert set(load_model(folder, torch.device("cpu")).tasks) == {"translate", "score"}
    assert training.trainer.reference(data.images).shape == (len(data), 3, 32, 32)
    assert training.trainer.reference(domains().fit(64, 1).images).shape == (8, 3, 32, 32)
    judged = [json.loads(line) for line in (training.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in judged if "kid" in line] == [2]
