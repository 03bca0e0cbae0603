"""Pictures as PNG files, and such files as pictures."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Mapping

from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

_LARGE = 2**20


def png_of(picture: Image.Image, texts: Mapping[str, str] | None = None) -> bytes:
    """A picture as PNG. Equal pictures give equal bytes.

    Args:
        picture: grey or coloured.
        texts: in ASCII, written into the file by their keywords.
    """
    info = PngInfo()
    for keyword, text in (texts or {}).items():
        info.add_text(keyword, text)
    if picture.width * picture.height < _LARGE:
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=1, pnginfo=info)  # pictures are small: time matters more than bytes
        return file.getvalue()
    # Only where it writes to a file of the system does Pillow give up the interpreter's lock while it compresses.
    with tempfile.TemporaryFile() as large:
        picture.save(large, "PNG", compress_level=1, pnginfo=info)
        large.seek(0)
        return large.read()


HEAD_BYTES = 24


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG file that was made here, from its first :data:`HEAD_BYTES` bytes."""
    width, height = struct.unpack_from(">II", png, 16)
    return width, height


def picture_of(png: bytes) -> Image.Image:
    """The picture of a PNG file that was made here."""
    with PngImageFile(io.BytesIO(png)) as picture:
        picture.load()
    return picture
