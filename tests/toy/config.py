"""Configurations of the toy."""

from __future__ import annotations

from typing import final

from models.core.config import BaseConfig, Count, Positive
from models.data.images import ImageData


@final
class Training(BaseConfig):
    iterations: Count
    batch_size: Count = 8
    rate: Positive = 0.2


@final
class Config(BaseConfig):
    """f(y) = -|y - mean|^2 / (2 sigma^2), refined by ``steps`` Langevin steps of size eta."""

    channels: Count
    size: Count
    sigma: Positive = 0.5
    eta: Positive = 0.05
    steps: Count = 5
    training: Training


PRESETS = {"plain": Config(channels=1, size=28, training=Training(iterations=40))}


def fit_to(config: Config, data: ImageData) -> Config:
    """The configuration with the shape of the data.

    Raises:
        ValueError: images that are not square.
    """
    channels, height, width = data.shape
    if height != width:
        raise ValueError(f"{data.name} has images of {width}x{height} pixels; the toy takes squares")
    return config.model_copy(update={"channels": channels, "size": height})
