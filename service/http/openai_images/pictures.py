"""Pictures of OpenAI's images API: what an edit hides, and images in the size and format that were asked for."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import final

from PIL import Image

from pictures.encoding import Format, encoded
from pictures.masks import of_mask, of_transparency
from pictures.png import picture_of, png_of

_CLEAR_BELOW = 128


def is_transparent(picture: Image.Image) -> bool:
    """Whether a part of a picture is transparent, so that it tells what is to be filled in."""
    return "A" in picture.getbands() and bool(picture.getchannel("A").getextrema()[0] < _CLEAR_BELOW)  # type: ignore[operator]


def mask_uri(mask: Image.Image) -> str:
    """A mask of the OpenAI API, transparent = fill in, as this API has masks: white = fill in.

    One that is nowhere transparent tells it by white already.
    """
    hidden = of_transparency(mask) if is_transparent(mask) else of_mask(mask)
    return data_uri(png_of(hidden.mask))


def data_uri(png: bytes) -> str:
    """A PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@final
@dataclass(frozen=True)
class Encoder:
    """Images as the answer has them.

    Args:
        format: of the files.
        quality: of JPEG and WebP, 0 to 100; None: as the server has them otherwise.
        size: width and height; None: as they are.
    """

    format: Format
    quality: int | None
    size: tuple[int, int] | None

    def base64(self, png: bytes) -> str:
        """A PNG file that was made here."""
        if self.format == "png" and self.size is None:
            return base64.b64encode(png).decode()
        return self.base64_of(picture_of(png))

    def base64_of(self, picture: Image.Image) -> str:
        """A picture."""
        if self.size is not None and picture.size != self.size:
            picture = picture.resize(self.size, Image.Resampling.LANCZOS)
        return base64.b64encode(self._file(picture)).decode()

    def parts(self, strip: bytes, count: int) -> list[str]:
        """The pictures that lie side by side in a PNG file."""
        whole = picture_of(strip)
        width = whole.width // count
        return [self.base64_of(whole.crop((k * width, 0, (k + 1) * width, whole.height))) for k in range(count)]

    def _file(self, picture: Image.Image) -> bytes:
        if self.quality is None or self.format == "png":
            return encoded(picture, self.format)
        file = io.BytesIO()
        picture.save(file, self.format.upper(), quality=self.quality)
        return file.getvalue()
