"""Pictures as PNG files, and such files as pictures."""

from __future__ import annotations

import io
import struct
import tempfile

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

_LARGE = 2**20


def png_of(picture: Image.Image) -> bytes:
    """A picture as PNG. Equal pictures give equal bytes."""
    if picture.width * picture.height < _LARGE:
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=1)  # pictures are small: time matters more than a few bytes
        return file.getvalue()
    # Only where it writes to a file of the system does Pillow give up the interpreter's lock while it compresses.
    with tempfile.TemporaryFile() as large:
        picture.save(large, "PNG", compress_level=1)
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
