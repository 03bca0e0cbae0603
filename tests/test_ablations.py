"""The ablations of CF-EBM: equal conditions, results that are kept, and divergences that are results as well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from benchmarks import ablations
from benchmarks.ablations import Ablation, Scale
from models.systems.cfebm.config import GenerationConfig
from models.systems.cfebm.generation.training import GenerationTrainer
from models.training.configuration import fit
from tests.models.zoo import images

SCALE = Scale(c=1, largest=16, steps=2, batch=4, phase=4, rate=1e-3)


@pytest.fixture(autouse=True)
def usual_torch() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(threads)


def blocks(pictures: Tensor) -> Tensor:
    """Means of small blocks, in place of a network."""
    return torch.nn.functional.avg_pool2d(pictures, 4).flatten(1)


def ablation(work: Path, minutes: float = 1e-6) -> Ablation:
    return Ablation(images(), work, 0, minutes, 12, blocks, torch.device("cpu"))


def test_the_variants_differ_in_one_point_each() -> None:
    variants = Scale(c=8, largest=32, steps=15, batch=32, phase=3_200, rate=1e-3).variants()
    base, direct, *others = variants.values()
    assert [stage.size for stage in base.stages] == [8, 16, 32]
    assert [(stage.size, stage.steps) for stage in direct.stages] == [(32, 45)]
    assert {config.steps for config in variants.values()} == {45}
    assert {config.growth for config in variants.values()} == {"chained"}
    changes = [
        {name for name, value in config.network.model_dump().items() if value != getattr(base.network, name)}
        for config in others
    ]
    assert changes == [{"activation"}, {"activation"}, {"spectral"}]
    same = {"stages", "network"}
    assert all(config.model_dump(exclude=same) == base.model_dump(exclude=same) for config in variants.values())


def test_a_direct_chain_starts_at_full_size_with_all_the_steps() -> None:
    config = fit("cfebm/generation", SCALE.variants()["direct"], images())
    assert isinstance(config, GenerationConfig)
    trainer = GenerationTrainer(config, images().fit(16, 1), 0, torch.device("cpu"))
    assert trainer.fit.alpha == 1
    assert not trainer.leave_stage()
    drawn = trainer.draw(3)
    assert drawn is not None
    assert drawn.shape == (3, 1, 16, 16)


def test_a_variant_that_did_not_reach_full_size_has_no_distance(tmp_path: Path) -> None:
    grown = SCALE.variants()["grown, swish, spectral norm"]
    found = ablation(tmp_path).measure("grown", grown)
    assert (found["iterations"], found["stage"], found["outcome"]) == (1, 0, "trained to the end")
    assert "kid" not in found


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    direct = SCALE.variants()["direct"]
    first = ablation(tmp_path).measure("direct", direct)
    assert first["kid"] > 0
    assert first["kid_std_error"] > 0
    assert ablation(tmp_path).measure("again", direct) == first
    assert ablation(tmp_path, minutes=2e-6).measure("longer", direct)["variant"] == "longer"


def test_a_divergence_is_a_result(tmp_path: Path) -> None:
    document = SCALE.variants()["direct"].model_dump()
    document["training"]["guards"]["value"] = 1e-9
    found = ablation(tmp_path, minutes=1).measure("unstable", GenerationConfig.model_validate(document))
    assert "the scale of f runs away" in found["outcome"]
    assert found["rollbacks"] > 0
    assert json.loads(next(tmp_path.glob("*/figures.json")).read_text()) == found


def test_one_table_of_all(tmp_path: Path) -> None:
    options = ["--data=tests/data/fashion-sample.npz", f"--work={tmp_path}", f"--json={tmp_path / 'figures.json'}"]
    small = ["--minutes=1e-6", "--c=1", "--largest=16", "--steps=1", "--batch=2", "--phase=1", "--judged=10"]
    result = CliRunner().invoke(ablations.main, [*options, *small, "--threads=1"])
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads((tmp_path / "figures.json").read_text())
    assert content["benchmark"] == "ablations"
    names = list(SCALE.variants())
    assert [row["variant"] for row in content["figures"]["variants"]] == names
    assert content["figures"]["scale"]["largest"] == 16
    table = result.output.partition("KID (EffNet-Lite0) of 10 images")[2]
    assert all(name in table for name in names)


def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(ablations.main, ["--data=nowhere", f"--work={tmp_path}"])
    assert result.exit_code == 1
    assert "no data called 'nowhere'" in result.output
