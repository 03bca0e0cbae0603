"""Which pixels a mask hides, whichever way it was drawn.

A mask says it by grey: white (128 to 255) is hidden, black is kept. Where it has transparency that varies, that says
it, for people and programs have two habits:

- strokes on a transparent canvas: what is drawn is white all over, and hidden where it is;
- a copy of the picture with a hole erased from it, as the OpenAI images API wants it: hidden where it is transparent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from pictures.bands import bands
from pictures.framing import on_white

_HIDDEN_FROM = 128
_DRAWN_FROM = 16  # fainter pixels of a stroke's edge have lost their colour
_WHITE_FROM = 250


class Hidden(NamedTuple):
    """What a mask hides.

    Args:
        mask: 0 and 255 (hidden), of mode L.
        warning: what is unusual about it.
    """

    mask: Image.Image
    warning: str | None = None


def of_mask(mask: Image.Image) -> Hidden:
    """What a picture that was sent as a mask hides."""
    if "A" in mask.getbands():
        low, high = mask.getchannel("A").getextrema()
        if low != high:
            return _told(_drawn(mask) if _is_drawn(mask) else _erased(mask), mask)
    return _told(_at_least(on_white(mask, 1), _HIDDEN_FROM), mask)


def of_transparency(image: Image.Image) -> Hidden:
    """What an image hides by its own transparency: what is more transparent than not."""
    mask = _erased(image)
    return Hidden(mask, None if mask.getbbox() else "nothing of it is transparent, so nothing is filled in")


def _told(hidden: Image.Image, mask: Image.Image) -> Hidden:
    if hidden.getbbox():
        return Hidden(hidden)
    levels = [level for level, count in enumerate(on_white(mask, 1).histogram()) if count]
    if len(levels) == 2 and levels[1] < _HIDDEN_FROM:
        both = f"its two values, {levels[0]} and {levels[1]}, are both below {_HIDDEN_FROM}"
        return Hidden(hidden, f"{both}, so nothing is filled in; draw in white (255) what is to be filled in")
    return Hidden(hidden, "it hides nothing, so nothing is filled in; draw in white what is to be filled in")


def _is_drawn(mask: Image.Image) -> bool:
    """Whether all that shows is white."""
    for band in bands(mask.size):
        part = mask.crop(band)
        shown = np.asarray(part.getchannel("A")) >= _DRAWN_FROM
        if (np.asarray(_colours(part))[shown] < _WHITE_FROM).any():
            return False
    return True


def _drawn(mask: Image.Image) -> Image.Image:
    """Strokes: at least half as opaque as the most opaque of them, so that half-transparent brushes draw as well."""
    alpha = mask.getchannel("A")
    return _at_least(alpha, max(1, (int(alpha.getextrema()[1]) + 1) // 2))  # type: ignore[arg-type]


def _erased(image: Image.Image) -> Image.Image:
    return image.getchannel("A").point([255 if level < _HIDDEN_FROM else 0 for level in range(256)])


def _colours(part: Image.Image) -> Image.Image:
    """The grey of LA and RGBA without regard to alpha."""
    return part.getchannel("L") if part.mode == "LA" else part.convert("RGB").convert("L")


def _at_least(grey: Image.Image, level: int) -> Image.Image:
    return grey.point([255 if value >= level else 0 for value in range(256)])
