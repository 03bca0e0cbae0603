"""Configurations of cGML for images."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias, final

from pydantic import Field, model_validator

from models.core.config import BaseConfig, Count
from models.data.kinds import Data, one_set
from models.systems.cgml.config import TrainingConfig
from models.systems.cgml.networks import NetworkConfig

TaskName: TypeAlias = Literal["translate", "colorize", "inpaint"]


@final
class Config(BaseConfig):
    """A whole model.

    ``translate``: the condition is the other image of an aligned pair. ``colorize``: it is the lightness of the image,
    L / 50 - 1, and the model makes (a, b) / 110. ``inpaint``: it is the image without its hidden pixels; these are 0
    and told by a channel more (``hole`` "mask"), or have the value -2 that no pixel has ("sentinel", as in the paper).

    ``both``: the condition images of aligned pairs are learned from as images, too. ``on_white``: white pixels are
    background and do not count. ``line_art``: conditions are dark lines on a light ground, and a drawing in chalk is
    inverted when serving. Images of ``image_size`` are padded by ``border`` to the networks' size.
    """

    task: TaskName
    channels: Literal[1, 3] = 3
    condition_channels: Literal[1, 3] = 3
    image_size: Count
    border: Annotated[float, Field(ge=-1, le=1)] = 1.0
    hole: Literal["mask", "sentinel"] = "mask"
    both: bool = False
    on_white: bool = False
    line_art: bool = False
    network: NetworkConfig
    training: TrainingConfig

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.image_size > self.size or (self.size - self.image_size) % 2:
            raise ValueError(f"images of {self.image_size} pixels can't be padded to {self.size} evenly")
        if self.task == "colorize" and self.channels != 3:
            raise ValueError("to learn colours it needs images in colour (channels 3)")
        return self

    @property
    def size(self) -> int:
        """Pixels of the side that the networks see."""
        return self.network.side

    @property
    def channels_in(self) -> int:
        """What H takes."""
        given = {"translate": self.condition_channels, "colorize": 1, "inpaint": self.channels}[self.task]
        return given + (self.task == "inpaint" and self.hole == "mask")

    @property
    def channels_out(self) -> int:
        """What G makes."""
        return 2 if self.task == "colorize" else self.channels


def fit_to(config: Config, data: Data) -> Config:
    """The configuration for these data: their channels, and their size if it can be padded to the model's.

    Raises:
        ValueError: images are larger or can't be padded evenly, or pairs are wanted and there are none.
    """
    images = one_set(data)
    channels, height, width = images.shape
    if height != width or height > config.size:
        raise ValueError(
            f"{images.name} has images of {width}x{height} pixels, but the preset takes squares of up to "
            f"{config.size}: resize them with --image-size {config.size} (image_size over REST)"
        )
    found = {"channels": channels, "image_size": height}
    if config.task == "translate":
        if images.conditions is None:
            raise ValueError(
                f"{images.name} has no condition images; a translation learns from aligned pairs (folders A, B)"
            )
        found["condition_channels"] = images.conditions.shape[1]
    return Config.model_validate({**config.model_dump(), **found})
