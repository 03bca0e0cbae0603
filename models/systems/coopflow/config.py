"""Configurations of CoopFlow."""

from __future__ import annotations

from typing import Annotated, Literal, Self, final

from pydantic import Field, model_validator

from models.core.config import BaseConfig, Count, NonNegative, Positive
from models.data.images import ImageData
from models.networks.flow.flowpp import FlowConfig, Share

Number = Annotated[int, Field(ge=0)]


@final
class ChainConfig(BaseConfig):
    """The chain: T ``steps`` of size ``delta``, or of ``delta_test`` when images are generated, without noise.

    ``drift`` is the most that a pixel moves in a step. The paper prints no such bound, its authors' code has it.
    ``descents`` are the iterations by which tasks look for the start of a chain that ends at a given image.
    """

    steps: Count
    delta: Positive
    delta_test: Positive
    drift: Positive = 0.1
    descents: Count = 100


@final
class GuardConfig(BaseConfig):
    """When an update is skipped, and when the training goes back.

    Skipped: a gradient's norm is beyond ``energy_norm`` or ``flow_norm``, or ``jump`` times the usual one (of the flow
    only while its bits are above the usual ones). Back: ``skips`` in a row; for ``patience`` iterations more than
    ``cut`` of the pixels are kept from going further, or ``saturated`` more are black or white than of the data; for
    ``still_patience`` iterations chains move less than ``still``, though their ends are bad; the bits of chain ends
    rise in each of three epochs, by more than ``rise`` together; the flow inverts worse than ``round_trip``.
    """

    energy_norm: Positive = 5e6
    flow_norm: Positive = 1e6
    jump: Positive = 20.0
    cut: Positive = 0.01
    saturated: Positive = 0.2
    patience: Count = 200
    still: Positive = 1e-3
    still_patience: Count = 500
    rise: Positive = 0.1
    skips: Count = 3
    round_trip: Positive = 1e-2


@final
class TrainingConfig(BaseConfig):
    """How both models are fitted.

    In the first iteration the flow's norms are fitted to ``norm_images`` images. In ``flow_share`` of the others it
    learns the data by maximum likelihood, in ``warm_up_share`` of what is left the energy learns alone, and then both.
    Without a pretrained flow both shares are 0.

    ``lr_flow_alone`` is the flow's rate while it learns the data, and falls to 0 over the last ``cool_down`` of that
    phase: proposals of weights that still jump are noise, and a slow ``lr_flow`` would not mend them. The other rates
    fall over the last ``cool_down`` of all iterations. Every rate grows over the first ``ramp`` iterations of a phase.
    ``average`` is the decay of the averages of the weights, which are what is served; 0: none.

    ``start``: what chains of the training start from. ``noise`` (uniform) is the short-run energy alone, to which the
    paper compares the pair; the flow learns nothing then.

    ``noise_epochs`` K lets the chains of the training have noise that decays by :func:`noise_share`; 0: none.
    ``flow_every``: the flow is updated in every so many iterations of the cooperation.
    ``precision`` is that of the energy's convolutions, in the chain too; the flow is always in single precision.
    ``data_noise``: standard deviation of what is added to the energy's real images.
    """

    iterations: Count
    flow_share: Share = 0.0
    warm_up_share: Share = 0.0
    batch_size: Count = 28
    norm_images: Count = 560
    lr_energy: Positive = 1e-4
    lr_flow: Positive = 1e-4
    lr_flow_alone: Positive = 1e-4
    ramp: Count = 200
    cool_down: Share = 0.0
    average: Share = 0.0
    start: Literal["flow", "noise"] = "flow"
    betas_energy: tuple[float, float] = (0.5, 0.5)
    betas_flow: tuple[float, float] = (0.9, 0.999)
    weight_decay: NonNegative = 5e-5
    clip: Positive = 1.0
    flow_every: Count = 1
    noise_epochs: Number = 0
    data_noise: Annotated[float, Field(ge=0, le=1 / 256)] = 0.0
    flip: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    guards: GuardConfig = GuardConfig()

    @property
    def flow_iterations(self) -> int:
        """Iterations in which the flow learns the data."""
        return round(self.flow_share * (self.iterations - 1))

    @property
    def energy_learns(self) -> bool:
        """Whether any iteration is the energy's."""
        return self.iterations - 1 > self.flow_iterations

    def cooled(self, done: int, iterations: int) -> float:
        """What rates are multiplied by when so many of so many iterations are done."""
        left, length = iterations - done, self.cool_down * iterations
        return min(1.0, left / length) if length else 1.0

    @property
    def warm_up_iterations(self) -> int:
        """Iterations in which the flow is frozen and the energy learns."""
        return round(self.warm_up_share * (self.iterations - 1 - self.flow_iterations))


@final
class Config(BaseConfig):
    """A CoopFlow of images of ``image_size`` pixels, which ``border`` pads to the ``size`` of the networks.

    ``legacy_decode`` decodes as the authors' code does, for weights that were trained with it.
    """

    channels: Literal[1, 3]
    image_size: Count
    size: Count = 32
    border: Annotated[float, Field(ge=-1, le=1)] = -1.0
    width: Count
    flow: FlowConfig
    chain: ChainConfig
    training: TrainingConfig
    legacy_decode: bool = False

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if self.size < 8 or self.size & (self.size - 1):
            raise ValueError(f"the networks take a power of two pixels, at least 8; got {self.size}")
        if self.image_size > self.size or (self.size - self.image_size) % 2:
            raise ValueError(f"images of {self.image_size} pixels can't be padded to {self.size} evenly")
        if self.size % 2 ** len(self.flow.scales):
            raise ValueError(f"images of {self.size} pixels can't be halved {len(self.flow.scales)} times")
        return self


def fit_to(config: Config, data: ImageData) -> Config:
    """The configuration for images of these data: their channels, and their size if it can be padded to the model's.

    Larger images are resized to the size of the networks.

    Raises:
        ValueError: smaller images can't be padded evenly.
    """
    channels, height, width = data.shape
    size = min(height, width, config.size)
    if size < config.size and (config.size - size) % 2:
        raise ValueError(f"images of {size} pixels can't be padded to {config.size} evenly; resize them (image size)")
    # Validated anew: model_copy would not.
    return Config.model_validate({**config.model_dump(), "channels": channels, "image_size": size})


def noise_share(epoch: float, last: int) -> float:
    r"""What the noise of a training chain is multiplied by: :math:`\max(1 - epoch / K, 0)^{20}` (eq. 10).

    As it is printed the power is taken before the maximum, and an even power is never negative.
    """
    return max(1 - epoch / last, 0.0) ** 20 if last else 0.0
