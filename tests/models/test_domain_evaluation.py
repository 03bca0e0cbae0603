"""A model that translates without pairs is measured in both directions on pairs that it has not seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.checkpoints import load_model, publish
from models.core.jobs import TranslateJob
from models.core.loop import Loop, Task
from models.core.model import LoadedModel
from models.core.output import Output
from models.data.catalog import load_domains
from models.data.images import DataError, ImageData
from models.data.unpaired import keep_pairs
from models.evaluation import domains as domain_evaluation
from models.evaluation.base import Run
from models.evaluation.domains import DomainBench
from models.systems.cfebm.translation.model import CFEBMTranslation
from models.systems.registry import VARIANTS
from models.training.configuration import configure
from tests.models.test_energy_evaluation import still

SIZE = 16
CPU = torch.device("cpu")


def features(images: Tensor) -> Tensor:
    """Means of small blocks, in place of a network."""
    return torch.nn.functional.avg_pool2d(images, 4).flatten(1)


class Inverting:
    """Turns the light domain's left half dark and back, which is all that the two differ in, and shows where."""

    nbytes = 0

    def __init__(self) -> None:
        self.asked: list[Mapping[str, float]] = []

    def examples(self) -> list[Any]:
        return []

    def translate(self, job: TranslateJob) -> Task[Output]:
        self.asked.append(job.label)
        left = (torch.arange(SIZE) < SIZE // 2).expand(1, 1, SIZE, SIZE)
        rows = yield Loop(still, {"y": torch.where(left, -job.image[None], job.image[None])}, 1, [job.seed])
        maps = {"net": left.float() * 2 - 1, "path": torch.zeros(1, 1, SIZE, SIZE)}
        return Output(images=rows["y"], energy=torch.zeros(1), seeds=[job.seed], extras=maps)


def pairs(n: int = 30) -> ImageData:
    """Noise, and the same with its left half inverted as the condition."""
    pixels = torch.randint(150, 256, (n, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    conditions = pixels.clone()
    conditions[..., : SIZE // 2] = 255 - conditions[..., : SIZE // 2]
    return ImageData(pixels, None, (), "made", conditions)


def bench(model: Inverting, *, paired: bool = True) -> DomainBench:
    data = replace(keep_pairs(pairs()), paired=paired)
    loaded = LoadedModel(model, {"translate": Inverting.translate}, {})
    defaults = {"n": 1, "steps": 3, "step_size": 1.0, "noise": 0.0, "refine": True}
    return DomainBench(loaded, defaults, ("dark", "light"), data, data, data)


def test_a_perfect_translation_has_perfect_figures_in_both_directions() -> None:
    model, said = Inverting(), []
    report = domain_evaluation.evaluate(bench(model), features, said.append)
    assert list(report["directions"]) == list(report["seconds"]) == ["light", "dark"]
    assert model.asked == [{"light": 1.0}] * 30 + [{"dark": 1.0}] * 30
    for found in report["directions"].values():
        assert found["translated"]["psnr"] == 100
        assert found["translated"]["l1"] == pytest.approx(0, abs=1e-6)
        assert found["translated"]["top1_pixels"] == found["translated"]["top1_features"] == 1
        assert found["translated"]["kid"] < 0 < found["identity"]["kid"]
        assert found["translated"]["kid_gain"] == pytest.approx(found["identity"]["kid"] - found["translated"]["kid"])
        assert 0 < found["translated"]["kid_gain_std_error"] < found["identity"]["kid"]
        assert found["identity"]["psnr"] < 20
        # The left half is what changes: all of the map lies there, and half of an even map would.
        assert found["saliency"]["net"] == {"mass": 1.0, "area": 0.5, "images": 30}
        assert found["saliency"]["path"]["mass"] == found["saliency"]["path"]["area"] == 0.5
    assert said == ["to light: translating 30 test images", "to dark: translating 30 test images"]
    assert report["protocol"].keys() >= {"l1", "psnr", "kid", "kid_std_error", "top1_pixels", "kid_gain", "saliency"}


def test_without_true_pairs_the_domains_are_compared() -> None:
    report = domain_evaluation.evaluate(bench(Inverting(), paired=False), features)
    for found in report["directions"].values():
        assert set(found) == {"translated", "identity"}
        assert set(found["identity"]) == {"kid", "kid_std_error"}
        assert found["translated"]["kid_gain"] > 0
    assert "saliency" not in report["protocol"]
    assert "psnr" not in report["protocol"]


def archive(root: Path, test: int = 10) -> str:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 12), ("valid", 10), ("test", test)):
        for name in ("images", "conditions"):
            arrays[f"{name}_{part}"] = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    np.savez(root / "pairs.npz", **arrays)
    return str(root / "pairs.npz")


def checkpoint(root: Path, data: str) -> Path:
    """An untrained CF-EBM."""
    domains, system = load_domains(data, "train", root), VARIANTS["cfebm/translation"]
    config = configure("cfebm", "small-translate", domains, {"network.c": 1, "source": "ink", "target": "photo"})
    weights = system.trainer(config, domains, 0, torch.device("cpu")).export()
    return publish(root / "models", {"name": "m", "system": "cfebm", **system.card(config, ())}, weights)


def test_a_checkpoint_is_measured_and_calibrated(tmp_path: Path) -> None:
    data = archive(tmp_path)
    bench = domain_evaluation.prepare(load_model(checkpoint(tmp_path, data), CPU), Run(data, tmp_path))
    model = bench.model.kernels
    assert isinstance(model, CFEBMTranslation)
    assert bench.domains == ("ink", "photo")
    report = domain_evaluation.evaluate(replace(bench, defaults={**bench.defaults, "steps": 2}), features)
    assert report["pairs"] is True
    assert set(report["directions"]["photo"]["saliency"]) == {"net", "path"}
    assert "NaN" not in json.dumps(report)
    known = VARIANTS["cfebm/translation"].calibrate(model, bench.valid)
    assert {name: values["images"] for name, values in known["conditions"].items()} == {"ink": 10, "photo": 10}


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    data = archive(tmp_path, test=4)
    with pytest.raises(DataError, match="holds out 4 images of a domain; measuring needs at least 10"):
        domain_evaluation.prepare(load_model(checkpoint(tmp_path, data), CPU), Run(data, tmp_path))
