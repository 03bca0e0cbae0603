"""Small pictures, as PNG files: opened for a sheet or film, cut out of strips, and compared."""

from __future__ import annotations

import io
from functools import reduce

from PIL import Image, ImageChops

from pictures.png import png_of

_HOLE = (190, 190, 190)


def opened(data: bytes, scale: int) -> Image.Image:
    """A picture, enlarged without smoothing, so that its pixels are seen as they are; what is transparent is grey."""
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", picture.size, _HOLE), picture).convert("RGB")
    return whole.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def cells(strip: bytes, count: int) -> list[bytes]:
    """The pictures of a strip of ``count`` side by side."""
    with Image.open(io.BytesIO(strip)) as picture:
        width = picture.width // count
        return [png_of(picture.crop((k * width, 0, (k + 1) * width, picture.height))) for k in range(count)]


def changes(before: bytes, after: bytes, times: int) -> bytes:
    """Where two pictures differ: the largest difference of a pixel's colours, so many times as bright."""
    first, second = opened(before, 1), opened(after, 1)
    largest = reduce(ImageChops.lighter, ImageChops.difference(first, second).split())
    return png_of(largest.point(lambda value: min(255, times * value)))
