"""Configurations of image-conditional CCoopNets: translation of aligned pairs, and inpainting."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.core.config import BaseConfig, Count, NonNegative
from models.data.images import ImageData
from models.networks.layers import Layer
from models.systems.ccoopnets.config import (
    RefinementConfig,
    TrainingConfig,
    conv,
    paper_refinement,
    pooled,
)


class UNetConfig(BaseConfig):
    """g(X, C): every stage halves the map (kernel 4, stride 2) and a mirrored stage doubles it, with a skip between.

    X are the dropout masks of the ``dropout_stages`` coarsest decoder stages: of single activations, as in the paper,
    which prints blotches of the size of those maps' pixels, or of whole ``channel`` maps. With ``finish``, the last
    stage has so many channels, and ``finish_layers`` convolutions (kernel 3) make the image of them and of the
    condition at full size, so that outlines need not be drawn anew; with one of them colours run over outlines.
    ``smooth`` doubles maps by repeating pixels before a convolution of kernel 3, instead of by a transposed
    convolution, which prints dots along edges. The paper's networks have neither.
    """

    widths: Annotated[tuple[Count, ...], Field(min_length=2)]
    dropout_stages: Annotated[int, Field(ge=1)]
    dropout: Literal["activation", "channel"] = "activation"
    finish: Count | None = None
    finish_layers: Count = 1
    smooth: bool = False


class PairSolverConfig(BaseConfig):
    """f(Y, C) on the joined channels of image and condition: convolutions, then the sum of ``head`` linear outputs.

    With ``local`` the linear layer is the same at every place of the last map, and f the sum over the places: a value
    of patches, which a small set of images can't teach by heart. The paper's solver has one weight for each place.
    """

    layers: tuple[Layer, ...]
    activation: Literal["leaky_relu", "silu"]
    head: Count = 100
    local: bool = False


class ImageTrainingConfig(TrainingConfig):
    r"""How the networks are fitted; the initializer's loss is, each term a mean over pixels and rows,

    .. math:: w_2 \|\tilde Y - \hat Y\|_2^2 / (2 \sigma^2) + w_1 \|Y - \hat Y\|_1

    ``jitter`` shifts image and condition together by up to so many pixels: ``resize`` enlarges both by it and crops
    (as the paper does), ``pad`` lays a white margin of half of it around them. ``mirror`` flips half of the rows.
    """

    l2_weight: NonNegative = 0.8
    l1_weight: NonNegative
    jitter: Annotated[int, Field(ge=0)] = 0
    jitter_by: Literal["resize", "pad"] = "resize"
    mirror: bool = True


class ImageConfig(BaseConfig):
    """A whole image-conditional CCoopNets.

    ``translate``: the condition is the other image of an aligned pair. ``inpaint``: it is the image itself with its
    hidden pixels set to 0, and the mask of hidden pixels as one more channel. ``line_art``: conditions are dark lines
    on a light ground, and a drawing in chalk is inverted when serving.
    """

    task: Literal["translate", "inpaint"]
    channels: Literal[1, 3]
    condition_channels: Count
    line_art: bool = False
    size: Count
    initializer: UNetConfig
    solver: PairSolverConfig
    refinement: RefinementConfig
    training: ImageTrainingConfig


def _paper(task: Literal["translate", "inpaint"], batch_size: int, images: int) -> ImageConfig:
    """256x256, constants of section 4.2 of the paper; the l1 term of the authors' code is a sum over the batch."""
    return ImageConfig(
        task=task,
        channels=3,
        condition_channels=4 if task == "inpaint" else 3,
        size=256,
        initializer=UNetConfig(widths=(64, 128, 256, 512, 512, 512, 512, 512), dropout_stages=7),
        solver=PairSolverConfig(
            layers=(conv(64, 5, 2, 2), conv(128, 3, 2, 1), conv(256, 3, 1, 1)), activation="leaky_relu"
        ),
        refinement=paper_refinement(0.002, 0.016, 15),
        training=ImageTrainingConfig(
            iterations=3000 * images // batch_size,
            batch_size=batch_size,
            lr_solver=0.007,
            lr_initializer=1e-4,
            l1_weight=0.2 * batch_size,
            jitter=30,
        ),
    )


def _small(task: Literal["translate", "inpaint"], solver_widths: tuple[int, ...], iterations: int) -> ImageConfig:
    """64x64, trains on a laptop. A step size at which the chain closes the gap to the data (eta = 4) is what makes
    colours decided; with the eta = 0.5 of earlier trials the gap stays at 20 to 40 and all is brown. Dropping whole
    channels is what keeps a region in one colour: dropping activations prints blotches of 4 to 16 pixels.
    """
    return ImageConfig(
        task=task,
        channels=3,
        condition_channels=4 if task == "inpaint" else 1,
        line_art=task == "translate",
        size=64,
        initializer=UNetConfig(
            widths=(48, 96, 160, 160, 160), dropout_stages=3, dropout="channel", finish=32, finish_layers=3, smooth=True
        ),
        solver=PairSolverConfig(layers=tuple(pooled(width) for width in solver_widths), activation="silu", local=True),
        refinement=RefinementConfig(steps=10, eta=4.0),
        training=ImageTrainingConfig(
            iterations=iterations,
            batch_size=16,
            lr_solver=1e-4,
            lr_initializer=4e-4,
            lr_schedule="cosine",
            lr_final=0.03,
            penalty=1e-2,
            ema=0.995,
            initialization="default",
            guard_value=1000.0,
            guard_move=1.0,
            l1_weight=5.0,
            instance_noise=0.1,
            jitter=8,
            jitter_by="pad",
        ),
    )


IMAGE_PRESETS: dict[str, ImageConfig] = {
    "small-emoji": _small("translate", (32, 64, 128), 2000),
    "small-inpaint": _small("inpaint", (32, 64, 128, 128), 2000),
    "paper-facades": _paper("translate", 1, 400),
    "paper-cufs": _paper("translate", 1, 100),
    "paper-zappos": _paper("translate", 4, 49_825),
    "paper-inpaint": _paper("inpaint", 1, 400),
}


def fit_image_config(config: ImageConfig, data: ImageData) -> ImageConfig:
    """The configuration with the channels of the data.

    Raises:
        ValueError: the data are of another size, or lack the condition images that a translation learns from.
    """
    channels, height, width = data.shape
    if (height, width) != (config.size, config.size):
        raise ValueError(
            f"{data.name} has images of {width}x{height} pixels, but the preset makes {config.size}x{config.size}: "
            f"resize the images with --image-size {config.size} (image_size over REST), or choose another --preset"
        )
    if config.task == "inpaint":
        return config.model_copy(update={"channels": channels, "condition_channels": channels + 1})
    if data.conditions is None:
        raise ValueError(f"{data.name} has no condition images; a translation learns from aligned pairs (folders A, B)")
    return config.model_copy(update={"channels": channels, "condition_channels": data.conditions.shape[1]})
