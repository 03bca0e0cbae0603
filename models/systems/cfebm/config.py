"""Configurations of CF-EBM: the paper's sizes, and small ones for a CPU."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, Self, TypeVar, final

from pydantic import Field, model_validator

from models.core.config import BaseConfig, Count, NonNegative, Positive
from models.data.kinds import Data


class NetworkConfig(BaseConfig):
    """The energy network (Table 6). Up to ``full_below`` pixels it is 4c wide, then half as wide with each doubling."""

    c: Count
    full_below: Count = 32
    activation: Literal["swish", "leaky_relu", "relu"] = "swish"
    spectral: bool = True
    residual: bool = True

    def width(self, size: int) -> int:
        """Channels of a map of ``size`` pixels a side: 4c up to ``full_below`` pixels, then 2c, c, c/2, ..."""
        return max(1, 4 * self.c * self.full_below // max(size, self.full_below))


class StageConfig(BaseConfig):
    """One stage of the growth.

    ``phase`` is the number of images over which the new block is faded in; the stage takes as many again.
    """

    size: Count
    steps: Count
    learning_rate: Positive
    batch_size: Count
    phase: Count


class SamplerConfig(BaseConfig):
    """The chain: step size ``lr``, and noise that falls linearly from ``s0`` towards ``s1``.

    ``coarse`` chains are annealed over all stages together where growth is chained, and over each stage by itself
    where it is single.
    """

    lr: Positive = 1.0
    s0: NonNegative = 0.015
    s1: NonNegative = 0.0


class GuardConfig(BaseConfig):
    """Bounds beyond which an update is not applied but undone (section 5 of the specification of stability)."""

    value: Positive = 100.0
    gap: Positive = 20.0
    gradient: Positive = 50.0
    std_ratio: tuple[Positive, Positive] = (0.5, 1.5)
    clamped: Positive = 0.2
    patience: Count = 200


class TrainingConfig(BaseConfig):
    """How the energy is fitted. ``iterations`` counts those of the growth and those that follow at full size.

    ``lr_final`` is the part of the last stage's learning rate that is left at the end: after the growth the rate falls
    linearly. Pictures of a chain change with every update, most in their grounds; a small rate lets them settle.

    ``spoiled`` is the share of chains that start, at the size of their stage, from observed images with noise of a
    standard deviation up to ``spoiled_std``, every second one also with a square hole full of noise. The paper has no
    such chains. But where growth is chained nothing noisy or incomplete passes the finest energy, and there f means
    nothing: the model makes images, but can neither denoise nor complete them, nor tell noise from them. With
    ``outlined`` every fourth of these starts is the outline of an image instead, whole or a part of it: line drawings
    are images that f must know not to be photographs.

    ``matching`` is the share of the iterations beyond those of the growth that come first and fit f by energy matching,
    which needs no chains (:mod:`models.systems.cfebm.matching`), at ``matching_rate``. A step of the chain should then
    be about 1/n, n its steps. In the rest of the first stage the mismatch stays in the loss, beside ``contrast`` times
    the contrastive one.

    ``outliers`` weighs a term that ranks observed images above others that are none, made of them: outlines, means of
    two, plain ones, and corrupted ones (:func:`models.systems.cfebm.generation.corruption.outliers`), by
    :func:`models.systems.cfebm.matching.misranking`. Neither paper has it; without it f tells little of what is far
    from every chain.

    ``ema`` is the decay of the average of the weights that is frozen with each stage, drawn from and served; 0: none.
    """

    iterations: Count
    lr_final: Annotated[float, Field(gt=0, le=1)] = 1.0
    betas: tuple[float, float] = (0.5, 0.999)
    data_noise: NonNegative = 0.0
    spoiled: Annotated[float, Field(ge=0, lt=1)] = 0.0
    spoiled_std: NonNegative = 0.5
    outlined: bool = False
    matching: Annotated[float, Field(ge=0, lt=1)] = 0.0
    matching_rate: Positive = 1e-3
    contrast: Positive = 1.0
    outliers: NonNegative = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    flip: bool = False
    guards: GuardConfig = GuardConfig()
    precision: Literal["fp32", "bf16"] = "fp32"


class Config(BaseConfig):
    """What both kinds of CF-EBM have.

    ``image_size`` is that of the data; images are padded by ``border`` up to the size of
    the last stage, and results cropped again. ``source`` and ``target`` name the domains of a translation.
    """

    task: Literal["generate", "translate"]
    source: str = "A"
    target: str = "B"
    channels: Literal[1, 3]
    image_size: Count
    border: Annotated[float, Field(ge=-1, le=1)] = -1.0
    growth: Literal["chained", "single"] = "chained"
    stages: Annotated[tuple[StageConfig, ...], Field(min_length=1)]
    network: NetworkConfig
    sampler: SamplerConfig
    training: TrainingConfig

    @model_validator(mode="after")
    def _doubling(self) -> Self:
        sizes = [stage.size for stage in self.stages]
        if sizes[0] < 8 or sizes[0] & (sizes[0] - 1) or any(b != 2 * a for a, b in pairwise(sizes)):
            raise ValueError(f"stages must double from a power of two, at least 8; got {sizes}")
        if self.image_size > self.size or (self.size - self.image_size) % 2:
            raise ValueError(f"images of {self.image_size} pixels can't be padded to {self.size} evenly")
        if self.training.iterations < (least := self._least_iterations()):
            raise ValueError(f"the growth takes {least} iterations; give training.iterations at least as many")
        return self

    def _least_iterations(self) -> int:
        """Until the last block is faded in: before that there is no model of whole images."""
        last, coarser = self.stages[-1], self.stages[:-1]
        return growth_iterations(coarser) + -(-last.phase // last.batch_size) if coarser else 1

    @property
    def matched(self) -> int:
        """Iterations of energy matching, with which the first stage begins."""
        training = self.training
        return int(training.matching * (training.iterations - self._least_iterations()))

    @property
    def size(self) -> int:
        """Pixels of the side at the last stage."""
        return self.stages[-1].size

    def entries_of(self, stage: int) -> tuple[int, ...]:
        """The resolutions at which the network of a stage has blocks, from 8."""
        return tuple(8 << k for k in range(int(math.log2(self.stages[stage].size // 8)) + 1))

    @property
    def steps(self) -> int:
        """Steps of the whole chain of the finished model."""
        return sum(stage.steps for stage in self.stages) if self.growth == "chained" else self.stages[-1].steps


@final
class GenerationConfig(Config):
    """A CF-EBM whose chain starts from noise."""

    task: Literal["generate"] = "generate"


@final
class TranslationConfig(Config):
    """A CF-EBM whose chain starts from an image of another domain, with an energy for each direction."""

    task: Literal["translate"] = "translate"

    @model_validator(mode="after")
    def _from_images(self) -> Self:
        if self.growth == "chained":
            raise ValueError("a translation starts at an image: its growth is single")
        if self.training.spoiled:
            raise ValueError(
                "the chains of a translation start at images of the other domain: training.spoiled must be 0"
            )
        if self.training.matching:
            raise ValueError(
                "energy matching begins with noise, a translation with images: training.matching must be 0"
            )
        return self


C = TypeVar("C", bound=Config)


def fit_to(config: C, data: Data) -> C:
    """The configuration for images of these data: their channels, and their size if it can be padded to the model's.

    Larger images are resized to the last stage; smaller ones are padded by the border.

    Raises:
        ValueError: smaller images can't be padded evenly.
    """
    channels, height, width = data.shape
    size = min(height, width, config.size)
    if size < config.size and (config.size - size) % 2:
        raise ValueError(
            f"images of {size} pixels can't be padded to {config.size} evenly; resize them with "
            f"--image-size {config.size} (image_size over REST)"
        )
    # Validated anew: model_copy would not.
    return type(config).model_validate({**config.model_dump(), "channels": channels, "image_size": size})


def growth_iterations(stages: tuple[StageConfig, ...]) -> int:
    """Iterations until the last of these stages has seen twice its phase."""
    return sum(2 * stage.phase // stage.batch_size + 1 for stage in stages)
