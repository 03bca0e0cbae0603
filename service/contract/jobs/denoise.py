"""Noise removed from pictures, and from surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from service.contract.cards import ModelCard
from service.contract.errors import invalid
from service.contract.jobs.fitted import RestorableRequest
from service.contract.jobs.request import PICTURE_FORMS, PictureRef, Role

_MOST = 128**2
_GREATEST, _RATIO = 1e12, 100


def _plain(value: Any) -> Any:
    """One short message, in place of one for each of a thousand numbers."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise PydanticCustomError("surface_type", "Input should be a data URI, or a list of numbers")
    for k, number in enumerate(value):
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | float) or not -_GREATEST <= number <= _GREATEST:
            where = {"place": k, "most": "10^12"}
            raise PydanticCustomError("surface_number", "Entry {place} should be null or a number to {most}", where)
    return value


Surface: TypeAlias = Annotated[
    Annotated[str, Field(min_length=1)] | Annotated[list[float | None], Field(min_length=1, max_length=_MOST)],
    BeforeValidator(_plain),
]
"""A surface in a request: a mesh file in a data URI, or the coefficients of its harmonics."""


class Denoise(RestorableRequest):
    """Clean a noisy image, or a noisy surface.

    Of an image the chain of the model starts at the image and takes `steps` steps. Nothing else holds the result to the
    image, so the number of steps is the strength: a few remove faint noise, many turn the image into one that the model
    likes.

    A model whose card has a `surface` takes a mesh or its spherical harmonics instead, and gives `n` cleaned surfaces:
    each as a picture, as an OBJ file (`surface` among its `extras`), and as harmonics (`spectrum`).
    """

    task: ClassVar[str] = "denoise"
    example: ClassVar[dict[str, Any]] = {"model": "fashion-cfebm", "image": "sample-noisy-shirt", "seed": 7}
    pictures: ClassVar[Mapping[str, Role]] = {"image": Role.IMAGE}
    surfaces: ClassVar[tuple[str, ...]] = ("surface",)

    image: PictureRef | None = Field(None, description=f"The noisy picture, for a model of pictures. {PICTURE_FORMS}")
    surface: Surface | None = Field(
        None,
        description="The surface, for a model of surfaces: a closed mesh in a data URI (OBJ, STL, or PLY as text), "
        "of which each direction from its centre of mass shows the outermost point; or the L x L coefficients of its "
        "radial function, those of degree l and order m at the place l^2 + l + m: real orthonormal harmonics without "
        "the phase of Condon and Shortley, sines at negative m. `null`: unknown, it is filled in.",
    )

    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """Nothing of its own, if what is given is what the model takes."""
        takes, other = ("image", "surface") if card.surface is None else ("surface", "image")
        if getattr(self, other) is not None:
            raise invalid(other, f"{card.ref} takes no {other}; send the field {takes}")
        if getattr(self, takes) is None:
            raise invalid(takes, f"{card.ref} cleans the {takes} that it is sent; send the field {takes}")
        if card.surface is None:
            return {}
        if self.restore:
            raise invalid("restore", "results are surfaces, which have the size of the one that was sent; leave it out")
        if isinstance(self.surface, list):
            self._check_coefficients(self.surface, card.surface.degrees)
        return {}

    def _check_coefficients(self, given: list[float | None], degrees: int) -> None:
        if len(given) != degrees**2:
            raise invalid("surface", f"send {degrees**2} coefficients, of degrees below {degrees}; got {len(given)}")
        first, greatest = given[0] or 0.0, max(abs(value or 0.0) for value in given)
        if first <= 0 or greatest > _RATIO * first:
            most = f"greater than 0, and no other more than {_RATIO} times as great"
            raise invalid("surface", f"the first coefficient, 3.5449 times the mean radius, must be {most}")
