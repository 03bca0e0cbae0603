"""Small pictures for the examples of the API's page, drawn here and sent as data URIs, so each runs as it stands."""

from __future__ import annotations

import base64
import io
import random

from PIL import Image, ImageDraw

_FINE = 4  # drawn so many times larger and scaled down, for smooth edges


def data_uri(picture: Image.Image) -> str:
    """A picture as ``data:image/png;base64,...``."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def shirt() -> str:
    """A light T-shirt on black, 28x28, grey."""
    return data_uri(_shirt(190))


def _shirt(light: int) -> Image.Image:
    right_half = [(16, 4), (19, 2), (26, 7), (23, 12), (20, 10), (20, 26)]
    outline = [*right_half, *((28 - x, y) for x, y in reversed(right_half))]
    picture = Image.new("L", (28 * _FINE, 28 * _FINE), 0)
    ImageDraw.Draw(picture).polygon([(x * _FINE, y * _FINE) for x, y in outline], fill=light)
    return picture.resize((28, 28), Image.Resampling.BOX)


def small_shirt() -> str:
    """The same, 14x14."""
    return data_uri(_shirt(190).resize((14, 14), Image.Resampling.BOX))


def noisy_shirt() -> str:
    """A dim shirt under faint noise, 28x28, grey."""
    noise = random.Random(7)
    picture = _shirt(170)
    clean, ink = picture.tobytes(), ImageDraw.Draw(picture)
    for place in ((x, y) for x in range(28) for y in range(28)):
        ink.point(place, min(255, max(0, round(clean[place[0] + 28 * place[1]] + noise.gauss(0, 25)))))
    return data_uri(picture)


def face_outline() -> str:
    """A smiling face in black lines on white, 64x64, grey."""
    return data_uri(_face(fill=255, ink=0, mode="L"))


def grey_face() -> str:
    """A smiling face in greys, 64x64."""
    return data_uri(_face(fill=205, ink=60, mode="L"))


def face_with_hole() -> str:
    """A yellow smiling face, 64x64, whose alpha hides (0) the right eye and what is around it."""
    picture = _face(fill=(255, 200, 40), ink=(90, 50, 10), mode="RGB").convert("RGBA")
    picture.paste((0, 0, 0, 0), (34, 16, 54, 36))
    return data_uri(picture.quantize(16))  # with transparency; a third of the bytes


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
