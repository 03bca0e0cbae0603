"""Requests with pictures that are brought to the model's size, and what that size is."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from service.contract.cards import ImageShape, ModelCard
from service.contract.jobs.request import JobRequest, Role


def shape_of(request: JobRequest, role: Role, card: ModelCard) -> ImageShape:
    """The shape in which the model of a resolved request takes a picture of this role."""
    return _SHAPES[role](request, card)


def _small(request: JobRequest, card: ModelCard) -> ImageShape:
    factor, image = int(request.options["factor"]), card.image
    return ImageShape(height=image.height // factor, width=image.width // factor, channels=image.channels)


_SHAPES: Mapping[Role, Callable[[JobRequest, ModelCard], ImageShape]] = {
    Role.IMAGE: lambda request, card: card.image,
    Role.CONDITION: lambda request, card: card.condition or card.image,
    Role.MASK: lambda request, card: card.image,
    Role.GREY: lambda request, card: card.image.model_copy(update={"channels": 1}),
    Role.SMALL: _small,
}


class FittedRequest(JobRequest, ABC):
    """A request with pictures, which are brought to the model's size."""

    fit: Literal["cover", "contain", "stretch"] = Field(
        "cover",
        description="How a picture of another shape is brought to the model's: `cover` cuts the largest window of the "
        "model's shape, from its middle or as near to it as the window holds what is to be filled in, `contain` takes "
        "all of it and fills the margin with white, `stretch` takes all of it and distorts it. Scaled by Lanczos "
        "resampling; a picture of the model's size is not touched.",
        examples=["cover"],
    )


class RestorableRequest(FittedRequest, ABC):
    """A request whose results may be brought back to the size of its picture."""

    keeps_lightness: ClassVar[bool] = False
    """Whether results have the lightness of the picture, also at its own size."""

    restore: bool = Field(
        False,
        description="Bring the results back to the size of the picture that was sent: `contain` loses its margin "
        "again, `stretch` its distortion, and with `cover` the window is put back into the picture. Where an image has "
        "a mask only hidden pixels change; all others are those of the picture.",
    )
