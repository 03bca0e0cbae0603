"""Sample pictures that every server has: a request may name one by its id, as it would name an upload.

They are drawn here, so that the examples of the API's page and the playground run as they stand.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

from PIL import Image, ImageDraw

from pictures.png import png_of

_FINE = 4  # drawn so many times larger and scaled down, for smooth edges


@final
@dataclass(frozen=True)
class Sample:
    """A sample picture.

    Args:
        title: what it shows.
        draw: makes it, always the same.
    """

    title: str
    draw: Callable[[], Image.Image]

    @cached_property
    def png(self) -> bytes:
        """Its file."""
        return png_of(self.draw())


def _shirt(light: int) -> Image.Image:
    right_half = [(16, 4), (19, 2), (26, 7), (23, 12), (20, 10), (20, 26)]
    outline = [*right_half, *((28 - x, y) for x, y in reversed(right_half))]
    picture = Image.new("L", (28 * _FINE, 28 * _FINE), 0)
    ImageDraw.Draw(picture).polygon([(x * _FINE, y * _FINE) for x, y in outline], fill=light)
    return picture.resize((28, 28), Image.Resampling.BOX)


def _noisy_shirt() -> Image.Image:
    noise = random.Random(7)
    picture = _shirt(170)
    clean, ink = picture.tobytes(), ImageDraw.Draw(picture)
    for place in ((x, y) for x in range(28) for y in range(28)):
        ink.point(place, min(255, max(0, round(clean[place[0] + 28 * place[1]] + noise.gauss(0, 25)))))
    return picture


def _yellow_face() -> Image.Image:
    return _face(fill=(255, 200, 40), ink=(90, 50, 10), mode="RGB")


def _face_with_hole() -> Image.Image:
    picture = _yellow_face().convert("RGBA")
    picture.paste((0, 0, 0, 0), (34, 16, 54, 36))
    return picture


def _face(fill: int | tuple[int, int, int], ink: int | tuple[int, int, int], mode: str) -> Image.Image:
    picture = Image.new(mode, (64 * _FINE, 64 * _FINE), "white")
    pen = ImageDraw.Draw(picture)

    def scaled(*box: float) -> tuple[float, ...]:
        return tuple(_FINE * value for value in box)

    pen.ellipse(scaled(6, 6, 58, 58), fill=fill, outline=ink, width=2 * _FINE)
    for left in (20, 38):
        pen.ellipse(scaled(left, 22, left + 6, 30), fill=ink)
    pen.arc(scaled(18, 22, 46, 48), 20, 160, fill=ink, width=2 * _FINE)
    return picture.resize((64, 64), Image.Resampling.BOX)


SAMPLES: Mapping[str, Sample] = {
    "sample-shirt": Sample("A light T-shirt on black, 28x28, grey", lambda: _shirt(190)),
    "sample-small-shirt": Sample("The same T-shirt, 14x14", lambda: _shirt(190).resize((14, 14), Image.Resampling.BOX)),
    "sample-noisy-shirt": Sample("A dim T-shirt under faint noise, 28x28, grey", _noisy_shirt),
    "sample-face": Sample("A yellow smiling face, 64x64", _yellow_face),
    "sample-small-face": Sample(
        "The yellow face, 16x16", lambda: _yellow_face().resize((16, 16), Image.Resampling.BOX)
    ),
    "sample-face-outline": Sample("A smiling face in black lines, 64x64", lambda: _face(fill=255, ink=0, mode="L")),
    "sample-face-with-hole": Sample("The yellow face with a transparent hole around an eye, 64x64", _face_with_hole),
    "sample-grey-face": Sample("A smiling face in greys, 64x64", lambda: _face(fill=205, ink=60, mode="L")),
}
"""Every sample picture, by its id."""
