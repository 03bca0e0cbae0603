"""The GPU's training of images by class, a few iterations of it on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.device_labels import Trainer, train, wide
from models.systems.ccoopnets.labels.model import load
from tests.models.zoo import CPU


def test_what_it_saves_is_the_averaged_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = wide(4)
    images = (torch.rand(40, 1, 28, 28) * 255).to(torch.uint8)
    trainer = Trainer(config, images, torch.arange(40) % 10)
    before = [p.clone() for p in trainer.average[0].parameters()]
    iterations = train(trainer, 0.1, 1)
    assert iterations >= 1
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.average[0].parameters(), strict=True))
    trainer.save(tmp_path, {"iterations": iterations})
    facts = json.loads((tmp_path / "training.json").read_text())
    card = {"config": facts["config"], "classes": [str(k) for k in range(10)]}
    model = load(card, load_file(tmp_path / "model.safetensors"), CPU)
    y, c = torch.rand(2, 1, 28, 28) * 2 - 1, torch.eye(10)[:2]
    # Weights are stored in half precision.
    torch.testing.assert_close(model.solver(y, c), trainer.average[1](y, c), rtol=0.02, atol=0.02)
