"""Any PNG, JPEG or WebP file becomes plain pixels with 8 bits a channel, or is refused.

Nothing of the file itself is kept: no metadata, no colour profile, no bytes that a decoder has not read.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from pictures.bands import bands
from pictures.files import BadPictureError, FileInfo, PictureLimits, examine

# A picture that Pillow has doubts about, such as damaged EXIF data, is refused rather than guessed at.
warnings.filterwarnings("error", module=r"PIL\.")

# Not Image.open: it tries formats by plug-ins that others may register.
_OPEN: dict[str, type[ImageFile]] = {"png": PngImageFile, "jpeg": JpegImageFile, "webp": WebPImageFile}
_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16"})
_PLAIN = frozenset({"L", "LA", "RGB", "RGBA"})
_BYTES_A_PIXEL = 4
_COPIES = 3


def memory(width: int, height: int) -> int:
    """Bytes that a picture of this size may take while it is decoded, turned, converted and encoded or fitted."""
    return width * height * _BYTES_A_PIXEL * _COPIES


def decode(data: bytes, info: FileInfo) -> Image.Image:
    """The upright picture of a file as L, LA, RGB or RGBA, without metadata.

    Args:
        data: the file.
        info: what :func:`pictures.files.examine` has found in it.

    Raises:
        BadPictureError: it can't be decoded, or its parts disagree.
    """
    try:
        with _OPEN[info.format](io.BytesIO(data)) as image:
            if image.size != (info.width, info.height):
                raise BadPictureError("its header gives two sizes")
            return _plain(image)
    except BadPictureError:
        raise
    except Exception as error:  # decoders fail in every way on damaged files
        raise BadPictureError(f"it can't be decoded: {str(error)[:200]}") from None


def read(data: bytes, limits: PictureLimits) -> Image.Image:
    """The picture of a file whose format and size are not known yet.

    Raises:
        BadPictureError: it is not one whole, still PNG, JPEG or WebP picture.
        TooLargeError: it is over the limits.
    """
    return decode(data, examine(data, limits))


def _plain(image: ImageFile) -> Image.Image:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    plain: Image.Image
    if image.mode in ("I", "I;16"):
        plain = _eight_bits(image)
    elif image.mode in _PLAIN and "transparency" not in image.info:
        plain = image  # convert() would make a copy
    else:
        mode = "L" if image.mode in _GREY else "RGB"
        plain = image.convert(f"{mode}A" if image.has_transparency_data else mode)
    plain.info.clear()  # save would write some of it
    return plain


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
