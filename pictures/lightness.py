"""What the lightness of a picture is, and how a coloured one takes on that of another.

``luma`` is the weighted sum of the channels by which image libraries turn colour into grey. ``cielab`` is L* of CIE
L*a*b* under D65: a grey picture has it where its linear light is the Y of the coloured one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pictures.bands import bands
from pictures.framing import on_white

LightnessName: TypeAlias = Literal["luma", "cielab"]
Floats: TypeAlias = NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # with which Pillow turns colour into grey
_Y = np.array([0.2126729, 0.7151522, 0.0721750], dtype=np.float32)  # of linear sRGB
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_WHITE = (_XYZ / _XYZ.sum(1, keepdims=True)).astype(np.float32)
_FROM_WHITE = np.linalg.inv(_TO_WHITE.astype(np.float64)).astype(np.float32)

_KNEE, _SLOPE = (6 / 29) ** 3, (29 / 6) ** 2 / 3


class Lightness(NamedTuple):
    """One meaning of the word.

    Args:
        grey: a picture of any mode -> the grey picture of its lightness, on white where it is transparent.
        taken: (coloured picture, another of its size) -> the colours of the first on the lightness of the other.
    """

    grey: Callable[[Image.Image], Image.Image]
    taken: Callable[[Image.Image, Image.Image], Image.Image]


def with_luma(picture: Image.Image, other: Image.Image) -> Image.Image:
    """The colours of a picture on the luma of another of its size.

    The differences of the channels from their luma are shortened alike where a channel would leave the range, so that
    the luma is the other's, to half a level.
    """

    def banded(rgb: Floats, base: Floats) -> Floats:
        grey = base @ _LUMA
        return _shortened(grey[..., None], rgb - (rgb @ _LUMA)[..., None])

    return _by_bands(picture, other, banded)


def with_cielab(picture: Image.Image, other: Image.Image) -> Image.Image:
    """(a*, b*) of a picture with L* of another of its size.

    Colours that sRGB lacks are made paler in linear light, where all of one Y have one L*, so the lightness stays.
    """

    def banded(rgb: Floats, base: Floats) -> Floats:
        f, y = _root(_linear(rgb) @ _TO_WHITE.T), _root(_linear(base) @ _Y)
        x, z = (y + f[..., k] - f[..., 1] for k in (0, 2))
        relative = _cube(np.stack([x, y, z], -1))
        grey = relative[..., 1:2]
        return _encoded(_shortened(grey, relative @ _FROM_WHITE.T - grey))

    return _by_bands(picture, other, banded)


def _cielab_grey(picture: Image.Image) -> Image.Image:
    plain = on_white(picture, 1 if picture.mode in ("L", "LA", "1") else 3)
    if plain.mode == "L":
        return plain
    result = Image.new("L", plain.size)
    for band in bands(plain.size):
        y = _linear(_floats(plain.crop(band))) @ _Y
        result.paste(Image.fromarray(_levels(_encoded(y))), band)
    return result


LIGHTNESS: Mapping[LightnessName, Lightness] = {
    "luma": Lightness(lambda picture: on_white(picture, 1), with_luma),
    "cielab": Lightness(_cielab_grey, with_cielab),
}


def _by_bands(picture: Image.Image, other: Image.Image, change: Callable[[Floats, Floats], Floats]) -> Image.Image:
    """A change of the colours of a picture beside another, both as numbers from 0 to 1, a band at a time."""
    result = Image.new("RGB", picture.size)
    for band in bands(picture.size):
        rgb, base = (_floats(one.crop(band).convert("RGB")) for one in (picture, other))
        result.paste(Image.fromarray(_levels(change(rgb, base))), band)
    return result


def _floats(picture: Image.Image) -> Floats:
    values: Floats = np.asarray(picture, dtype=np.float32) / np.float32(255)
    return values


def _levels(values: Floats) -> NDArray[np.uint8]:
    return np.rint(values * 255).clip(0, 255).astype(np.uint8)


def _shortened(grey: Floats, colour: Floats) -> Floats:
    """grey + colour, whose channels are shortened alike until none is out of range."""
    room = np.where(colour > 0, 1 - grey, grey) / np.maximum(np.abs(colour), 1e-6)
    whole: Floats = grey + colour * np.minimum(room.min(-1, keepdims=True), 1)
    return whole


def _linear(s: Floats) -> Floats:
    light: Floats = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    return light


def _encoded(v: Floats) -> Floats:
    v = v.clip(0, 1)
    values: Floats = np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)
    return values


def _root(t: Floats) -> Floats:
    f: Floats = np.where(t > _KNEE, np.cbrt(t), _SLOPE * t + 4 / 29).astype(np.float32)
    return f


def _cube(f: Floats) -> Floats:
    t: Floats = np.where(f > 6 / 29, f**3, (f - 4 / 29) / _SLOPE)
    return t
