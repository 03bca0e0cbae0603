"""Pictures from clients: any PNG, JPEG or WebP file becomes a plain PNG with 8 bits a channel, or is refused.

Nothing of the file itself is kept: no metadata, no colour profile, no bytes that a decoder has not read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.pictures.files import BadPictureError, TooLargeError, examine

# A picture that Pillow has doubts about, such as damaged EXIF data, is refused rather than guessed at.
warnings.filterwarnings("error", module=r"PIL\.")

_DATA_URI = re.compile(r"data:[^,;]{0,100}(?:;[^,;]{1,100}){0,4};base64,", re.IGNORECASE)
# Not Image.open: it tries formats by plug-ins that others may register.
_OPEN: dict[str, type[ImageFile]] = {"png": PngImageFile, "jpeg": JpegImageFile, "webp": WebPImageFile}
_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16"})


@dataclass(frozen=True)
class PictureLimits:
    """What is accepted.

    Args:
        max_bytes: of the file as it is sent.
        max_pixels: width times height.
    """

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True)
class Picture:
    """A picture that was read and found good.

    Args:
        png: the picture as PNG: grey or colour, with or without alpha, 8 bits a channel, upright.
        width: in pixels.
        height: in pixels.
        alpha: whether it carries transparency.
    """

    png: bytes
    width: int
    height: int
    alpha: bool

    @classmethod
    def stored(cls, png: bytes) -> Picture:
        """A picture that was read before, from its PNG."""
        with PngImageFile(io.BytesIO(png)) as image:
            return cls(png, *image.size, alpha=image.mode in ("LA", "RGBA"))


@dataclass(frozen=True)
class ReceivedPicture:
    """A picture with what is known of the file that it came in.

    Args:
        picture: the picture.
        format: ``png``, ``jpeg`` or ``webp``.
        bytes: size of the file.
        sha256: hash of the file.
    """

    picture: Picture
    format: str
    bytes: int
    sha256: str


def read(data: bytes, limits: PictureLimits) -> ReceivedPicture:
    """A picture from a file that a client sent, whatever its name or declared type.

    Raises:
        BadPictureError: it is not one whole, still PNG, JPEG or WebP picture.
        TooLargeError: it is over the limits.
    """
    if len(data) > limits.max_bytes:
        raise TooLargeError(f"it has {len(data)} bytes; at most {limits.max_bytes} are accepted")
    info = examine(data, limits.max_pixels)
    try:
        with _OPEN[info.format](io.BytesIO(data)) as image:
            if image.size != (info.width, info.height):
                raise BadPictureError("its header gives two sizes")
            plain = _plain(image)
    except BadPictureError:
        raise
    except Exception as error:  # decoders fail in every way on damaged files
        raise BadPictureError(f"it can't be decoded: {str(error)[:200]}") from None
    file = io.BytesIO()
    plain.save(file, "PNG", compress_level=1)
    picture = Picture(file.getvalue(), plain.width, plain.height, plain.mode in ("LA", "RGBA"))
    return ReceivedPicture(picture, info.format, len(data), hashlib.sha256(data).hexdigest())


def file_of_data_uri(uri: str, limits: PictureLimits) -> bytes:
    """The file in ``data:image/png;base64,...``; the media type is not believed.

    Raises:
        BadPictureError: it is no such URI.
        TooLargeError: the file is over the limit.
    """
    head = _DATA_URI.match(uri)
    if head is None:
        raise BadPictureError(
            "it is neither the id of an uploaded image (img_...) nor a data URI such as data:image/png;base64,..."
        )
    if (len(uri) - head.end()) // 4 * 3 > limits.max_bytes + 2:
        raise TooLargeError(f"it has more than {limits.max_bytes} bytes, which are accepted at most")
    try:
        return base64.b64decode(uri[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise BadPictureError("what follows `base64,` is not base64") from None


def _plain(image: ImageFile) -> Image.Image:
    """The upright picture as L, LA, RGB or RGBA, without metadata."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "I;16"):
        plain = _eight_bits(image)
    else:
        mode = "L" if image.mode in _GREY else "RGB"
        plain = image.convert(f"{mode}A" if image.has_transparency_data else mode)
    plain.info.clear()  # save would write some of it
    return plain


def _eight_bits(image: Image.Image) -> Image.Image:
    """16 bits of grey as 8; the level that a PNG calls transparent becomes alpha."""
    levels = np.asarray(image)
    grey = Image.fromarray((levels / 257).round().astype(np.uint8))
    clear = image.info.get("transparency")
    if clear is None:
        return grey
    return Image.merge("LA", [grey, Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8))])
