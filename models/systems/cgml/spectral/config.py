"""Configurations of cGML for spectral maps."""

from __future__ import annotations

from typing import Annotated, Self, final

from pydantic import Field, model_validator

from models.core.config import BaseConfig, Positive
from models.data.kinds import Data, one_set
from models.systems.cgml.config import Share, TrainingConfig
from models.systems.cgml.images.config import Config as ImagesConfig
from models.systems.cgml.networks import NetworkConfig
from surfaces.maps import DEVIATIONS


@final
class Config(BaseConfig):
    """A whole model.

    ``deviations``: of the coefficients of each degree, by which maps are scaled (see :mod:`surfaces.maps`). ``noise``:
    the least and greatest deviation of the noise in training, in units of a map. ``hidden``: in so many of the maps a
    square of half their side is unknown. ``by_radius``: this part of the error is that of the radii, in which a few low
    degrees count most; the rest is that of the map, in which all cells count alike. ``picture``: pixels of the side of
    rendered pictures.
    """

    deviations: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=128)] = DEVIATIONS
    noise: tuple[Positive, Positive] = (0.05, 0.15)
    hidden: Share = 0.5
    by_radius: Share = 0.0
    picture: Annotated[int, Field(ge=16, le=512)] = 96
    network: NetworkConfig
    training: TrainingConfig

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.network.side != self.degrees:
            raise ValueError(f"maps of {self.degrees} degrees need networks of as many pixels, not {self.network.side}")
        return self

    @property
    def degrees(self) -> int:
        """L, also the side of a map."""
        return len(self.deviations)

    @property
    def maps(self) -> ImagesConfig:
        """The model that completes maps, as one of pictures: what is unknown is 0, and told by a second channel."""
        return ImagesConfig(
            task="inpaint",
            channels=1,
            image_size=self.degrees,
            border=0.0,
            network=self.network,
            training=self.training,
        )


def fit_to(config: Config, data: Data) -> Config:
    """The same configuration, if the data are maps.

    Raises:
        ValueError: they are not of its size.
    """
    maps = one_set(data)
    if maps.shape != (1, config.degrees, config.degrees):
        channels, height, width = maps.shape
        raise ValueError(
            f"{maps.name} has {width}x{height} pixels in {channels} channels; this preset learns from spectral maps, "
            f"{config.degrees}x{config.degrees} grey: take --data primitives (data over REST)"
        )
    return config
