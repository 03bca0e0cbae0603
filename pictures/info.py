"""What is known of a picture file before a decoder touches it, and why one is refused."""

from __future__ import annotations

from dataclasses import dataclass

from pictures.exif import orientation


class BadPictureError(Exception):
    """The file is not a picture that can be used; the message says why."""


class TooLargeError(Exception):
    """The picture has more bytes or pixels than are allowed; the message gives the limit."""


@dataclass(frozen=True)
class PictureLimits:
    """What is accepted. Tables for scaling a picture grow with its sides, so these are bounded as its pixels are.

    Args:
        max_bytes: of the file as it is sent.
        max_pixels: width times height.
        max_side: of width and height.
        max_ratio: of the longer side to the shorter.
    """

    max_bytes: int
    max_pixels: int
    max_side: int = 16_384
    max_ratio: int = 100

    def check(self, width: int, height: int) -> None:
        """Check the size that a header gives.

        Raises:
            BadPictureError: there are no pixels, or one side is far longer than the other.
            TooLargeError: there are too many.
        """
        if not width or not height:
            raise BadPictureError("it has no pixels")
        if width * height > self.max_pixels:
            raise TooLargeError(f"it has {width}x{height} pixels; at most {self.max_pixels} are accepted")
        longer, shorter = max(width, height), min(width, height)
        if longer > self.max_side:
            raise TooLargeError(f"it has {width}x{height} pixels; a side may have at most {self.max_side}")
        if longer > self.max_ratio * shorter:
            most = f"a side may be at most {self.max_ratio} times the other, so cut it"
            raise BadPictureError(f"it has {width}x{height} pixels; {most}")


@dataclass(frozen=True)
class FileInfo:
    """What a file says of itself.

    Args:
        format: ``png``, ``jpeg`` or ``webp``.
        width: in pixels, as they are stored.
        height: likewise.
        grey: whether its pixels are grey; those of a palette count as coloured.
        pixels: the file without what is not needed for its pixels: no texts, no profile, nothing behind its end.
        profile: its colour profile (ICC.1); None: it has none, or one that is too long.
        exif: its Exif data; None: it has none.
        clear_scale: by what the levels are multiplied that a PNG calls transparent, where its pixels have less than 8
            bits; 1/256 where they have 16 in each of several channels.
    """

    format: str
    width: int
    height: int
    grey: bool
    pixels: bytes
    profile: bytes | None = None
    exif: bytes | None = None
    clear_scale: float = 1

    @property
    def orientation(self) -> int:
        """How its pixels must be turned to be upright: 1 (not at all) to 8, as Exif numbers them."""
        return orientation(self.exif) if self.exif else 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return (self.width, self.height) if self.orientation < 5 else (self.height, self.width)


OWN_FILES = PictureLimits(max_bytes=2**29, max_pixels=2**28, max_side=2**16, max_ratio=2**16)
"""For pictures of data sets, which the operator has put there: what decoders can do."""

MAX_PROFILE = 4 * 2**20
"""Longest colour profile that is used, in bytes; those of printers have up to two million."""

_PADDING = b"\0\xff\r\n\t "
_OTHERS = (b"PK\x03\x04", b"PK\x05\x06", b"Rar!", b"7z\xbc\xaf", b"<", b"%PDF", b"%!", b"MZ", b"\x7fELF", b"#!")


def cut_short() -> BadPictureError:
    """The error for a file that ends too early."""
    return BadPictureError("the file is cut short")


def check_trailer(data: bytes, end: int) -> None:
    """Look at what follows the end of a picture: cameras append films, and programs padding, which is left out.

    Raises:
        BadPictureError: it is an archive, a program or a text with markup, which has been hidden in the picture.
    """
    if data[end:].lstrip(_PADDING).startswith(_OTHERS):
        raise BadPictureError("other data follow the end of the picture, such as an archive or a script")
