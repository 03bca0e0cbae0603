"""The GPU's training of an energy, a few iterations of it on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.device_energy import Trainer, corrupted, lean, lean_value, outliers, train
from models.systems.cfebm.config import GenerationConfig
from models.systems.cfebm.generation.model import load
from models.systems.cfebm.networks import Energy, fuse, value
from models.systems.cfebm.presets import GENERATION_PRESETS
from tests.models.zoo import CPU


def tiny() -> GenerationConfig:
    config = GENERATION_PRESETS["small-matched"].model_dump()
    config["stages"] = [{**config["stages"][0], "size": 16, "steps": 3, "batch_size": 8}]
    config |= {"network": {**config["network"], "c": 2}, "image_size": 16}
    return GenerationConfig.model_validate(config)


def test_the_lean_energy_is_the_energy() -> None:
    torch.manual_seed(0)
    net = Energy(tiny().network, 1, (8, 16)).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    y = torch.rand(3, 1, 16, 16) * 2 - 1
    plain = net.effective()
    torch.testing.assert_close(
        lean_value(lean(plain, 16, torch.float32), y, 16), value(fuse(plain), y), rtol=1e-4, atol=1e-4
    )


def test_it_trains_both_phases_and_what_it_saves_is_a_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = (torch.rand(64, 1, 16, 16) * 255).to(torch.uint8)
    trainer = Trainer(tiny(), images)
    before = trainer.average.effective()["head.weight"].clone()
    phases: list[str] = []
    matched, contrasted = trainer.match, trainer.contrast

    def noted(name: str, iterate: object) -> object:
        return lambda: (phases.append(name), iterate())  # type: ignore[operator]

    trainer.match, trainer.contrast = noted("match", matched), noted("contrast", contrasted)  # type: ignore
    train(trainer, 1.5, 1, lambda iterations: trainer.save(tmp_path, {"iterations": iterations}))
    assert phases == sorted(phases, reverse=True)
    assert set(phases) == {"match", "contrast"}
    assert not torch.equal(trainer.average.effective()["head.weight"], before)
    facts = json.loads((tmp_path / "training.json").read_text())
    assert facts["iterations"] == len(phases)
    model = load(facts, load_file(tmp_path / "model.safetensors"), CPU)
    y = torch.rand(2, 1, 16, 16) * 2 - 1
    torch.testing.assert_close(model.log_density(y), value(fuse(trainer.average.effective()), y), rtol=1e-4, atol=1e-4)


def test_what_is_no_image_is_within_range() -> None:
    torch.manual_seed(0)
    images = torch.rand(16, 1, 16, 16) * 2 - 1
    for made in (outliers(images), corrupted(images, 0.5, outlined=True)):
        assert made.shape == images.shape
        assert made.abs().max() <= 1
        assert not torch.equal(made, images)
    plain = outliers(images)[6]  # up to faint noise
    assert plain.std() < 0.15
