"""Simple pictures drawn by code, for demonstrations: as line art, or in colour."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from PIL import Image, ImageDraw

SIZE = 64
_FINE = 4  # drawn so many times larger and scaled down, for smooth edges
_LINES = {"line art": 3, "colour": 2}  # pixels: about what emoji have; thinner line art is coloured worse

Colour: TypeAlias = tuple[int, int, int]
Points: TypeAlias = list[tuple[float, float]]
_INK, _PAPER = (0, 0, 0), (255, 255, 255)


@dataclass
class _Pen:
    """Draws closed shapes on a picture of 64x64 pixels; without colour each is white with a black line."""

    picture: Image.Image
    colour: bool

    def polygon(self, points: Points, fill: Colour) -> None:
        scaled = [(x * _FINE, y * _FINE) for x, y in points]
        self._draw.polygon(scaled, fill=fill if self.colour else _PAPER, outline=_INK, width=self._width)

    def ellipse(self, box: tuple[float, float, float, float], fill: Colour) -> None:
        scaled = tuple(side * _FINE for side in box)
        self._draw.ellipse(scaled, fill=fill if self.colour else _PAPER, outline=_INK, width=self._width)

    @property
    def _width(self) -> int:
        return _FINE * _LINES["colour" if self.colour else "line art"]

    @property
    def _draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.picture)


def _house(pen: _Pen) -> None:
    pen.polygon([(12, 30), (52, 30), (52, 58), (12, 58)], (250, 220, 160))
    pen.polygon([(6, 31), (32, 6), (58, 31)], (220, 70, 50))
    pen.polygon([(27, 40), (37, 40), (37, 58), (27, 58)], (140, 90, 50))
    pen.polygon([(42, 37), (49, 37), (49, 45), (42, 45)], (130, 200, 240))


def _fish(pen: _Pen) -> None:
    pen.polygon([(42, 32), (60, 16), (60, 48)], (250, 150, 40))
    pen.ellipse((5, 16, 48, 48), (250, 170, 50))
    pen.polygon([(22, 34), (36, 34), (29, 43)], (240, 130, 30))
    pen.ellipse((13, 24, 20, 31), (255, 255, 255))


def _face(pen: _Pen) -> None:
    pen.ellipse((6, 6, 58, 58), (255, 200, 40))
    pen.ellipse((20, 22, 26, 30), (90, 50, 10))
    pen.ellipse((38, 22, 44, 30), (90, 50, 10))
    pen.ellipse((25, 37, 39, 49), (160, 40, 40))


_DRAWINGS: dict[str, Callable[[_Pen], None]] = {"house": _house, "fish": _fish, "face": _face}

_HOLES = {"house": (0, 0, SIZE, 30), "fish": (32, 0, SIZE, SIZE), "face": (32, 0, SIZE, SIZE)}
"""What is hidden of each: left, top, right, bottom."""


def line_art() -> dict[str, bytes]:
    """Black lines on white, as PNG files by name."""
    return {name: _png(_drawn(name, colour=False).convert("L")) for name in _DRAWINGS}


def in_colour() -> dict[str, bytes]:
    """Coloured pictures on white, as PNG files by name."""
    return {name: _png(_drawn(name, colour=True)) for name in _DRAWINGS}


def with_noise(png: bytes, seed: int, std: float = 0.2) -> bytes:
    """A grey picture with Gaussian noise; ``std`` is on the scale on which pixels run from -1 to 1."""
    with Image.open(io.BytesIO(png)) as picture:
        clean, size = picture.convert("L").tobytes(), picture.size
    noise = random.Random(seed)
    noisy = bytes(min(255, max(0, round(value + noise.gauss(0, std * 127.5)))) for value in clean)
    return _png(Image.frombytes("L", size, noisy))


def with_holes() -> dict[str, bytes]:
    """Coloured pictures of which a part is transparent, as PNG files by name."""
    files = {}
    for name, box in _HOLES.items():
        picture = _drawn(name, colour=True).convert("RGBA")
        picture.paste((0, 0, 0, 0), box)
        files[name] = _png(picture)
    return files


def _drawn(name: str, colour: bool) -> Image.Image:
    picture = Image.new("RGB", (SIZE * _FINE, SIZE * _FINE), _PAPER)
    _DRAWINGS[name](_Pen(picture, colour))
    return picture.resize((SIZE, SIZE), Image.Resampling.BOX)


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
