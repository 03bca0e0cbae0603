"""What a PNG, JPEG or WebP file says of itself, checked before a decoder touches it.

Decoders are lenient: they draw what is there, fill the rest with grey, inflate texts and profiles of any length, and
make room for as many pixels as a header claims. Here a file must be one still picture, whole, with data for the pixels
that its header promises; what is not needed for its pixels is left out.
"""

from __future__ import annotations

import struct

from pictures.formats import jpeg, png, webp
from pictures.info import OWN_FILES, BadPictureError, FileInfo, PictureLimits, TooLargeError, cut_short

__all__ = ["OWN_FILES", "BadPictureError", "FileInfo", "PictureLimits", "TooLargeError", "examine"]


def examine(data: bytes, limits: PictureLimits, *, counted: bool = True) -> FileInfo:
    """What a picture file is.

    Args:
        data: the file.
        limits: what is accepted.
        counted: whether its data are checked as well. False: its head alone, for a look at the size of a known file.

    Raises:
        BadPictureError: it is not a whole, still PNG, JPEG or WebP picture, or its data do not match its header.
        TooLargeError: the file is over the limits, or its header promises a picture that is.
    """
    if len(data) > limits.max_bytes:
        raise TooLargeError(f"it has {len(data)} bytes; at most {limits.max_bytes} are accepted")
    try:
        if data.startswith(png.SIGNATURE):
            return png.examine(data, limits, counted)
        if data.startswith(jpeg.SIGNATURE):
            return jpeg.examine(data, limits, counted)
        if webp.is_webp(data):
            return webp.examine(data, limits, counted)
    except (struct.error, IndexError):
        raise cut_short() from None
    raise BadPictureError("it is not a PNG, JPEG or WebP file" if data else "it is empty")
