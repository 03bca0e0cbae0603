"""Configurations of CCoopNets with labels: the constants of the paper, and small ones that train on a laptop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.core.config import BaseConfig, Count, NonNegative, Positive
from models.data.images import ImageData
from models.networks.layers import Layer
from models.systems.ccoopnets.config import RefinementConfig, TrainingConfig, conv, paper_refinement


def _check_join(concat_at: int, layers: Sequence[Layer]) -> None:
    """Without a layer that the label joins, it would be left out."""
    if concat_at >= len(layers):
        raise ValueError(f"concat_at must name one of {len(layers)} layers, 0 to {len(layers) - 1}")


class InitializerConfig(BaseConfig):
    """g(X, C): a latent X of ``latent`` numbers to an image; the label joins before layer ``concat_at``."""

    latent: Count
    layers: tuple[Layer, ...]
    concat_at: Annotated[int, Field(ge=0)] = 0
    label_scale: Positive = 1.0

    @model_validator(mode="after")
    def _joined(self) -> Self:
        _check_join(self.concat_at, self.layers)
        return self


class SolverConfig(BaseConfig):
    """f(Y, C): convolutions, then the sum of ``head`` linear outputs; the label joins before layer ``concat_at``.

    ``label_scale`` multiplies the one-hot label. At 1 its ten channels are lost among the others at first.
    """

    layers: tuple[Layer, ...]
    concat_at: Annotated[int, Field(ge=0)]
    activation: Literal["leaky_relu", "silu"]
    label_scale: Positive = 1.0
    head: Count = 100

    @model_validator(mode="after")
    def _joined(self) -> Self:
        _check_join(self.concat_at, self.layers)
        return self


class LabelTrainingConfig(TrainingConfig):
    """The same where the condition is a label.

    ``label_likelihood`` weighs -log p(C|Y) of observed images with p(C|Y) proportional to exp f(Y, C), which the solver
    also minimizes, on as many images of a batch as make ``label_values`` values of f, one for each label. Eq. 6
    compares values within one label only, so it never asks f to tell labels apart. Not in the paper; as in "Your
    classifier is secretly an energy based model" (Grathwohl and others, 2020).
    """

    label_likelihood: NonNegative = 0.0
    label_values: Count = 160


class Config(BaseConfig):
    """A whole CCoopNets: both networks, the loop between them, and the training."""

    channels: Literal[1, 3]
    size: Count
    classes: Count = 10
    initializer: InitializerConfig
    solver: SolverConfig
    refinement: RefinementConfig
    training: LabelTrainingConfig


def _up(out: int, kernel: int, stride: int, padding: int, output_padding: int = 0, crop: int = 0) -> Layer:
    return Layer(
        out=out,
        kernel=kernel,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        transposed=True,
        crop=crop,
    )


_PAPER_SOLVER = SolverConfig(
    layers=(conv(64, 5, 2, 2), conv(128, 3, 2, 1), conv(256, 3, 1, 1)), concat_at=2, activation="leaky_relu"
)


def _paper_28(latent: int, batch_size: int) -> Config:
    """MNIST and Fashion-MNIST, constants of the authors' code: 3,000 epochs, noise in the first 100 of them."""
    return Config(
        channels=1,
        size=28,
        initializer=InitializerConfig(
            latent=latent, layers=(_up(256, 4, 1, 0), _up(128, 4, 2, 1, crop=1), _up(64, 4, 2, 1), _up(1, 4, 2, 1))
        ),
        solver=_PAPER_SOLVER,
        refinement=paper_refinement(0.0008, 0.016, 16),
        training=LabelTrainingConfig(
            iterations=3000 * 60_000 // batch_size,
            batch_size=batch_size,
            lr_solver=8e-4,
            lr_initializer=1e-4,
            lr_schedule="exponential",
            lr_final=0.96**30,
            noise_fraction=100 / 3000,
        ),
    )


_PAPER_SVHN = Config(
    channels=3,
    size=32,
    initializer=InitializerConfig(
        latent=100, layers=(_up(256, 4, 1, 0), _up(128, 4, 2, 1), _up(64, 4, 2, 1), _up(3, 4, 2, 1))
    ),
    solver=_PAPER_SOLVER,
    refinement=paper_refinement(0.0008, 0.016, 16),
    training=_paper_28(100, 200).training.model_copy(update={"iterations": 3000 * 73_257 // 200}),
)

_PAPER_CIFAR10 = Config(
    channels=3,
    size=32,
    initializer=InitializerConfig(
        latent=100,
        layers=(_up(256, 4, 1, 0), _up(128, 5, 2, 2, 1), _up(64, 5, 2, 2, 1), _up(3, 5, 2, 2, 1)),
        concat_at=2,
    ),
    solver=_PAPER_SOLVER,
    refinement=paper_refinement(0.0008, 0.016, 8),
    training=LabelTrainingConfig(
        iterations=2000 * 50_000 // 300,
        batch_size=300,
        lr_solver=0.002,
        lr_initializer=0.0064,
        noise_fraction=500 / 2000,
    ),
)

_SMALL = Config(
    channels=1,
    size=28,
    initializer=InitializerConfig(
        latent=100,
        # Even kernels at every stride: k5 or k3 at stride 2 touch pixels unevenly and print a checkerboard.
        layers=(_up(128, 7, 1, 0), conv(128, 3, 1, 1), _up(64, 4, 2, 1), _up(32, 4, 2, 1), conv(1, 3, 1, 1)),
        label_scale=3.0,
    ),
    solver=SolverConfig(
        layers=(conv(32, 4, 2, 1), conv(64, 4, 2, 1), conv(128, 3, 1, 1)),
        concat_at=2,
        activation="silu",
        label_scale=6.0,
    ),
    refinement=RefinementConfig(steps=10, eta=1.0),
    training=LabelTrainingConfig(
        iterations=3000,
        batch_size=64,
        lr_solver=6e-4,
        lr_initializer=6e-4,
        lr_schedule="cosine",
        # Not near zero: an initializer that goes on learning from a solver that has stopped falls into f's modes.
        lr_final=0.3,
        penalty=1e-3,
        label_likelihood=1.0,
        ema=0.995,
        initialization="default",
        guard_value=1000.0,
        guard_move=1.0,
    ),
)

_SMALL_COLOUR = _SMALL.model_copy(
    update={
        "channels": 3,
        "size": 32,
        "initializer": InitializerConfig(
            latent=100,
            layers=(_up(128, 8, 1, 0), conv(128, 3, 1, 1), _up(64, 4, 2, 1), _up(32, 4, 2, 1), conv(3, 3, 1, 1)),
            label_scale=3.0,
        ),
    }
)
"""The same for 32x32 pixels in colour. Any folder of photos can be brought to that by ``--image-size 32``."""

PRESETS: dict[str, Config] = {
    "small": _SMALL,
    "small-colour": _SMALL_COLOUR,
    "paper-mnist": _paper_28(latent=100, batch_size=200),
    "paper-fashion": _paper_28(latent=128, batch_size=300),
    "paper-svhn": _PAPER_SVHN,
    "paper-cifar10": _PAPER_CIFAR10,
}


def fit_to(config: Config, data: ImageData) -> Config:
    """The configuration with as many classes as the data have.

    Raises:
        ValueError: the data have no labels, or images of another size than the preset's networks make.
    """
    channels, height, width = data.images.shape[1:]
    if data.labels is None or not data.classes:
        raise ValueError(f"{data.name} has no labels; this system learns images given their class: use class folders")
    if (channels, height, width) != (config.channels, config.size, config.size):
        raise ValueError(
            f"{data.name} has images of {channels}x{height}x{width} (channels, height, width), but the preset makes "
            f"{config.channels}x{config.size}x{config.size}: bring the images to that with --image-size {config.size} "
            f"--channels {config.channels} (image_size and channels over REST), or choose another --preset"
        )
    return config.model_copy(update={"classes": len(data.classes)})
