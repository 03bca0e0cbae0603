"""The kinds of data that systems learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from models.data.images import DataError, ImageData
from models.data.unpaired import UnpairedData

Kind: TypeAlias = Literal["images", "domains"]
"""``images`` is one set, with labels or condition images where a system asks for them; ``domains`` are two sets, of
which no image belongs to an image of the other."""

Data: TypeAlias = ImageData | UnpairedData


def one_set(data: Data) -> ImageData:
    """The same data, if they are one set of images.

    Raises:
        DataError: they are two domains.
    """
    if isinstance(data, UnpairedData):
        raise DataError(
            f"{data.name} has two domains without pairs, but one set of images is wanted: "
            "choose a preset that translates without pairs, or give one folder of images"
        )
    return data


def two_domains(data: Data) -> UnpairedData:
    """The same data, if they are two domains.

    Raises:
        DataError: they are one set of images, whether in pairs or not.
    """
    if isinstance(data, ImageData):
        raise DataError(
            f"{data.name} is one set of images, but two domains without pairs are wanted: "
            "give a folder with the folders trainA and trainB, or read aligned pairs as domains (load_domains)"
        )
    return data


_CHECKS: Mapping[Kind, Callable[[Data], Data]] = {"images": one_set, "domains": two_domains}


def check_kind(kind: Kind, data: Data) -> None:
    """Refuse data of another kind, by :func:`one_set` or :func:`two_domains`."""
    _CHECKS[kind](data)
