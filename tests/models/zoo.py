"""A tiny model of every registered system, so that laws are tested over the registry and not by copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from models.configuration import configure
from models.data.images import ImageData
from models.systems.base import Model
from models.systems.registry import SYSTEMS

CLASSES = ("round", "square", "thin")


def images(n: int = 24, size: int = 28, channels: int = 1) -> ImageData:
    """Random images with labels."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=generator).to(torch.uint8)
    return ImageData(pixels, torch.arange(n) % len(CLASSES), CLASSES, "random")


TINY: dict[str, Mapping[str, Any]] = {
    "ccoopnets": {"training.iterations": 12, "training.batch_size": 4, "refinement.steps": 3},
}
"""Overrides of each system's `small` preset that train in a moment."""


def tiny_model(system: str) -> Model:
    """An untrained model of a system, the same each time."""
    data = images()
    config = configure(system, "small", data, TINY[system])
    entry = SYSTEMS[system]
    trainer = entry.trainer(config, data, 3, torch.device("cpu"))
    return entry.load(config.model_dump(mode="json"), trainer.export(), CLASSES, torch.device("cpu"))


@dataclass(frozen=True)
class GenerateJob:
    """A resolved request of ``generate``."""

    n: int = 2
    seed: int = 5
    steps: int = 4
    step_size: float = 1.0
    noise: float = 0.05
    refine: bool = True
    label: Mapping[str, float] = field(default_factory=lambda: {"round": 0.25, "thin": 0.75})


JOBS: dict[str, Callable[..., Any]] = {"generate": GenerateJob}
"""For every task a request with defaults that suit the tiny models."""
