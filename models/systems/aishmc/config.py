"""Configurations of a progressive GAN, and of how latents are looked for in it."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self, final

from pydantic import Field, model_validator

from models.core.config import BaseConfig, Count, NonNegative, Positive
from models.data.kinds import Data
from models.systems.aishmc.settings import SolverName


class NetworkConfig(BaseConfig):
    """Both networks: min(base / 2^s, most) channels at 2^(s+1) pixels; ``latent`` numbers make an image."""

    latent: Count
    base: Count
    most: Count


class LevelConfig(BaseConfig):
    """One resolution of the growth: ``fade`` thousands of images to fade it in, then ``stable`` more."""

    size: Count
    fade: NonNegative
    stable: NonNegative
    batch_size: Annotated[int, Field(ge=2)] = 16


class TrainingConfig(BaseConfig):
    """How both are fitted (WGAN-GP). ``iterations`` are updates of each; the last level goes on to their end.

    ``ramp`` and ``ema_warm`` are in thousands of images: the rate rises to ``learning_rate`` over the first, and the
    average follows faster, by ``ema_start``, over the second. ``guard_value`` bounds the mean of the critic on observed
    images, ``guard_penalty`` the running mean of the gradient penalty.
    """

    iterations: Count
    learning_rate: Positive = 1e-3
    ramp: NonNegative = 40.0
    betas: tuple[float, float] = (0.0, 0.99)
    penalty: Positive = 10.0
    drift: NonNegative = 1e-3
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    ema_start: Annotated[float, Field(ge=0, lt=1)] = 0.999
    ema_warm: NonNegative = 0.0
    flip: bool = False
    guard_value: Positive = 200.0
    guard_penalty: Positive = 10.0


class SolverConfig(BaseConfig):
    """What requests get that do not say how latents are looked for; see ``models.systems.aishmc.settings.Settings``.

    ``sigma`` is a standard deviation in units of the range [-1, 1].
    """

    solver: SolverName = "ais_hmc"
    temperatures: Count = 200
    leapfrogs: Count = 10
    chains: Annotated[int, Field(ge=1, le=16)] = 1
    sigma: Annotated[float, Field(ge=0.01, le=1)] = 0.1
    target: Literal["posterior", "tempered_paper"] = "posterior"
    starts: Annotated[int, Field(ge=16, le=8192)] = 512
    polish: Annotated[int, Field(ge=0, le=2000)] = 0


@final
class Config(BaseConfig):
    """A progressive GAN of images of ``image_size`` pixels, which are padded by ``border`` up to the last level."""

    channels: Literal[1, 3]
    image_size: Count
    border: Annotated[float, Field(ge=-1, le=1)] = -1.0
    network: NetworkConfig
    levels: Annotated[tuple[LevelConfig, ...], Field(min_length=1)]
    training: TrainingConfig
    solver: SolverConfig = SolverConfig()

    @model_validator(mode="after")
    def _doubling(self) -> Self:
        sizes = [level.size for level in self.levels]
        if sizes[0] != 4 or any(b != 2 * a for a, b in pairwise(sizes)):
            raise ValueError(f"levels must double from 4 pixels; got {sizes}")
        if self.image_size > self.size or (self.size - self.image_size) % 2:
            raise ValueError(f"images of {self.image_size} pixels can't be padded to {self.size} evenly")
        if self.training.iterations < (least := growth_iterations(self.levels)):
            raise ValueError(f"the growth takes {least} iterations; give training.iterations at least as many")
        return self

    @property
    def size(self) -> int:
        """Pixels of the side at the last level."""
        return self.levels[-1].size


def growth_iterations(levels: tuple[LevelConfig, ...]) -> int:
    """Iterations until the last of these levels is faded in."""
    *coarser, last = levels
    return sum(_iterations(level, level.fade + level.stable) for level in coarser) + max(
        1, _iterations(last, last.fade)
    )


def _iterations(level: LevelConfig, kimg: float) -> int:
    return -(-round(1000 * kimg) // level.batch_size)


def fit_to(config: Config, data: Data) -> Config:
    """The configuration for images of these data: their channels, and their size if it can be padded to the model's.

    Larger images are resized to the last level; smaller ones are padded by the border.

    Raises:
        ValueError: smaller images can't be padded evenly.
    """
    channels, height, width = data.shape
    size = min(height, width, config.size)
    if size < config.size and (config.size - size) % 2:
        raise ValueError(f"images of {size} pixels can't be padded to {config.size} evenly; resize them (image size)")
    return Config.model_validate({**config.model_dump(), "channels": channels, "image_size": size})
