"""Finished pictures in the formats that people ask for."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from PIL import Image

from pictures.png import png_of

Format: TypeAlias = Literal["png", "webp", "jpeg"]

MEDIA_TYPES: Mapping[Format, str] = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}

_HOW: Mapping[Format, Mapping[str, Any]] = {
    "webp": {"lossless": True, "method": 4},  # smaller than PNG, with every pixel as it is
    "jpeg": {"quality": 95, "subsampling": 0},
}


def encoded(picture: Image.Image, format: Format) -> bytes:
    """A grey or coloured picture as a file. WebP keeps every pixel, JPEG does not."""
    if format == "png":
        return png_of(picture)
    file = io.BytesIO()
    picture.save(file, format, **_HOW[format])
    return file.getvalue()
