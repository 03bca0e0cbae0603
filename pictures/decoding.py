"""Any PNG, JPEG or WebP file becomes plain, upright sRGB pixels with 8 bits a channel, or is refused.

Nothing of the file itself is kept: no metadata, no colour profile, no bytes that a decoder has not read.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from pictures.bands import bands
from pictures.colours import to_srgb
from pictures.files import examine
from pictures.info import BadPictureError, FileInfo, PictureLimits

# Not Image.open: it tries formats by plug-ins that others may register.
_OPEN: dict[str, type[ImageFile]] = {"png": PngImageFile, "jpeg": JpegImageFile, "webp": WebPImageFile}
_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16"})
_PLAIN = frozenset({"L", "LA", "RGB", "RGBA"})
_BYTES_A_PIXEL = 4
_COPIES = 3
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def memory(width: int, height: int) -> int:
    """Bytes that a picture of this size may take while it is decoded, turned, converted and encoded or fitted."""
    return width * height * _BYTES_A_PIXEL * _COPIES


def decode(info: FileInfo) -> Image.Image:
    """The upright picture of a file as L, LA, RGB or RGBA, without metadata.

    Args:
        info: what :func:`pictures.files.examine` has found in it.

    Raises:
        BadPictureError: it can't be decoded, or its parts disagree.
    """
    try:
        with _OPEN[info.format](io.BytesIO(info.pixels)) as image:
            if image.size != (info.width, info.height):
                raise BadPictureError("its header gives two sizes")
            image.load()
            plain = _eight_bits(image) if image.mode in ("I", "I;16") else _plain(image, info)
            turn = _UPRIGHT.get(info.orientation)
            plain = plain.transpose(turn) if turn is not None else plain
    except BadPictureError:
        raise
    except Exception as error:  # decoders fail in every way on damaged files
        raise BadPictureError(f"it can't be decoded: {str(error)[:200]}") from None
    plain.info.clear()  # save would write some of it
    return plain


def read(data: bytes, limits: PictureLimits) -> Image.Image:
    """The picture of a file whose format and size are not known yet.

    Raises:
        BadPictureError: it is not one whole, still PNG, JPEG or WebP picture.
        TooLargeError: it is over the limits.
    """
    return decode(examine(data, limits))


def _plain(image: Image.Image, info: FileInfo) -> Image.Image:
    """8 bits a channel, sRGB."""
    clear = image.info.get("transparency")
    if clear is not None and image.mode in ("L", "RGB"):
        image.info["transparency"] = _scaled(clear, info.clear_scale)
    if image.mode == "CMYK" and info.profile:
        return to_srgb(image, info.profile).convert("RGB")
    if image.mode not in _PLAIN or clear is not None:
        mode = "L" if image.mode in _GREY else "RGB"
        image = image.convert(f"{mode}A" if image.has_transparency_data else mode)
    return to_srgb(image, info.profile) if info.profile else image


def _scaled(clear: Any, scale: float) -> Any:
    """The level that a PNG calls transparent, in the levels of the decoded picture: a number, or one a channel."""
    return tuple(int(level * scale) for level in clear) if isinstance(clear, tuple) else int(clear * scale)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16 bits of grey as 8; the level that a PNG calls transparent becomes alpha."""
    clear = image.info.get("transparency")
    plain = Image.new("L" if clear is None else "LA", image.size)
    for band in bands(image.size):
        levels = np.asarray(image.crop(band))
        grey = Image.fromarray((levels / 257).round().astype(np.uint8))
        if clear is not None:
            alpha = Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8))
            grey = Image.merge("LA", [grey, alpha])
        plain.paste(grey, band)
    return plain
