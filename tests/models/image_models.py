"""Small untrained image-conditional CCoopNets, and requests for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.core.jobs import JOBS, Job
from models.core.model import LoadedModel
from models.data.images import ImageData
from models.networks.unet import UNet
from models.systems.ccoopnets.images.variant import IMAGES
from models.systems.ccoopnets.training import CCoopTrainer
from models.systems.registry import load_from
from models.training.configuration import configure
from tests.models.zoo import SMALLER

OVERRIDES = {**SMALLER, "training.batch_size": 4, "training.iterations": 12, "refinement.steps": 3}
CPU = torch.device("cpu")


def pairs(n: int = 8, size: int = 64) -> ImageData:
    """Random pictures with random conditions on a light ground."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (n, 3, size, size), generator=generator).to(torch.uint8)
    conditions = torch.randint(140, 256, (n, 1, size, size), generator=generator).to(torch.uint8)
    return ImageData(images, None, (), "pairs", conditions)


def trainer_of(preset: str, **overrides: Any) -> CCoopTrainer:
    config = configure("ccoopnets", preset, pairs(), {**OVERRIDES, **overrides})
    trainer = IMAGES.trainer(config, pairs(), 3, CPU)
    assert isinstance(trainer, CCoopTrainer)
    return trainer


def model_of(preset: str) -> LoadedModel:
    trainer = trainer_of(preset)
    card = {"system": "ccoopnets", "variant": "ccoopnets/images", **IMAGES.card(trainer.config, ())}
    return load_from(card, trainer.export(), CPU)


def job(task: str, **fields: Any) -> Job:
    generator = torch.Generator().manual_seed(5)
    common: dict[str, Any] = {"n": 2, "seed": 1, "steps": 4, "step_size": 1.0, "noise": 0.0, "refine": True}
    own = (
        {} if task == "interpolate" else {"image": torch.randint(0, 256, (3, 64, 64), generator=generator) / 127.5 - 1}
    )
    return JOBS[task](**common | own | fields)


def line_art(seed: int) -> Tensor:
    return torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def layer_sizes(network: UNet) -> list[tuple[int, int]]:
    convolutions = [*network.down, *network.up, network.last]
    return [(c.in_channels, c.out_channels) for c in convolutions]  # type: ignore[misc,union-attr]
