"""What a PNG, JPEG or WebP file says of itself, checked before a decoder touches it.

Decoders are lenient: they draw what is there, fill the rest with grey, skip what follows the end, and make room for as
many pixels as a header claims. Here a file must be one still picture, whole, with nothing behind it, and with data for
the pixels that its header promises.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_SPAN = 65_536


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


class FileInfo(NamedTuple):
    """What a file's header says."""

    format: str
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, before the picture is turned upright."""
        return self.width, self.height


def examine(data: bytes, limits: PictureLimits) -> FileInfo:
    """The format and size of a picture file.

    Raises:
        BadPictureError: it is not a whole, still PNG, JPEG or WebP picture, or its data do not match its header.
        TooLargeError: the file is over the limits, or its header promises a picture that is.
    """
    if len(data) > limits.max_bytes:
        raise TooLargeError(f"it has {len(data)} bytes; at most {limits.max_bytes} are accepted")
    try:
        if data.startswith(_PNG):
            return _examine_png(data, limits)
        if data.startswith(_JPEG):
            return _examine_jpeg(data, limits)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _examine_webp(data, limits)
    except (struct.error, IndexError):
        raise _cut_short() from None
    raise BadPictureError("it is not a PNG, JPEG or WebP file" if data else "it is empty")


def _bounded(format: str, width: int, height: int, limits: PictureLimits) -> FileInfo:
    if not width or not height:
        raise BadPictureError("it has no pixels")
    if width * height > limits.max_pixels:
        raise TooLargeError(f"it has {width}x{height} pixels; at most {limits.max_pixels} are accepted")
    longer, shorter = max(width, height), min(width, height)
    if longer > limits.max_side:
        raise TooLargeError(f"it has {width}x{height} pixels; a side may have at most {limits.max_side}")
    if longer > limits.max_ratio * shorter:
        most = limits.max_ratio
        raise BadPictureError(
            f"it has {width}x{height} pixels; a side may be at most {most} times the other, so cut it"
        )
    return FileInfo(format, width, height)


def _cut_short() -> BadPictureError:
    return BadPictureError("the file is cut short")


def _followed() -> BadPictureError:
    return BadPictureError("other data follow the end of the picture")


# ---- PNG (ISO/IEC 15948) ---------------------------------------------------------------------------------------------

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples a pixel
# x and y of the first pixel, and the steps to the next, of the seven passes of an interlaced picture
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _examine_png(data: bytes, limits: PictureLimits) -> FileInfo:
    chunks = _png_chunks(data)
    kind, header = next(chunks)
    if kind != b"IHDR" or len(header) != 13:
        raise BadPictureError("the PNG file does not begin with its header")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    info = _bounded("png", width, height, limits)
    if colour not in _SAMPLES:
        raise BadPictureError(f"the PNG file has an unknown colour type, {colour}")
    compressed = []
    for kind, body in chunks:
        if kind == b"acTL":
            raise BadPictureError("it is animated")
        if kind == b"IDAT":
            compressed.append(body)
    bits = depth * _SAMPLES[colour]
    promised = sum(
        rows * (1 + (columns * bits + 7) // 8)
        for columns, rows in _passes(width, height, bool(interlaced))
        if columns and rows
    )
    if _inflated(compressed, promised) != promised:
        raise BadPictureError(f"its data do not make the {width}x{height} pixels of its header")
    return info


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Type and content of each chunk; raises if a checksum is wrong or the last is not the end of the file."""
    view, at, kind = memoryview(data), len(_PNG), b""
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], view[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != checksum:
            raise BadPictureError("the PNG file is damaged: a checksum is wrong")
        yield kind, body
        at += 12 + length
    if at != len(data):
        raise _followed()


def _passes(width: int, height: int, interlaced: bool) -> list[tuple[int, int]]:
    """Columns and rows of each pass."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    return [((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in passes]


def _inflated(parts: list[memoryview], promised: int) -> int:
    """How many bytes a zlib stream holds; counting stops soon after ``promised``. -1 if it is damaged or unfinished."""
    inflater, count = zlib.decompressobj(), 0
    try:
        for piece in (part[at : at + _SPAN] for part in parts for at in range(0, len(part), _SPAN)):
            left: bytes | memoryview = piece
            while left and not inflater.eof and count <= promised:
                count += len(inflater.decompress(left, _SPAN))
                left = inflater.unconsumed_tail
            if inflater.eof or count > promised:
                return count
        count += len(inflater.flush())
    except zlib.error:
        return -1
    return count if inflater.eof else -1


# ---- JPEG (ITU-T T.81) -----------------------------------------------------------------------------------------------

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # start of frame, by kind of coding
_SCAN, _END = 0xDA, 0xD9
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # stuffed zeros and restarts belong to the data of a scan
_NOT_ZERO = re.compile(rb"[^\x00]")
_MAX_SCANS = 100  # encoders write about ten; a decoder goes through the whole picture for each


def _examine_jpeg(data: bytes, limits: PictureLimits) -> FileInfo:
    info, end = _one_jpeg(data, 0, limits)
    while more := _NOT_ZERO.search(data, end):
        if not data.startswith(_JPEG, more.start()):
            raise _followed()
        # Cameras append smaller pictures (CIPA DC-007); only the first is used.
        _, end = _one_jpeg(data, more.start(), limits)
    return info


def _one_jpeg(data: bytes, start: int, limits: PictureLimits) -> tuple[FileInfo, int]:
    """The header of the JPEG that begins at ``start``, and where it ends."""
    info: FileInfo | None = None
    at, coded, scans = start + 2, 0, 0
    marker, at = _marker(data, at, within_scan=False)
    while marker != _END:
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            info = _bounded("jpeg", width, height, limits)
        scans += marker == _SCAN
        after = at + 2 + length
        following, at = _marker(data, after, within_scan=marker == _SCAN)
        coded += at - after
        marker = following
    if info is None:
        raise BadPictureError("the JPEG file has no picture")
    if scans > _MAX_SCANS:
        raise BadPictureError(f"its picture is built up in {scans} scans; at most {_MAX_SCANS} are accepted")
    blocks = -(-info.width // 8) * -(-info.height // 8)
    if coded * 8 < blocks:  # no coding spends less than a bit on a block of 8x8 pixels
        raise BadPictureError(f"its data do not make the {info.width}x{info.height} pixels of its header")
    return info, at + 2


def _marker(data: bytes, at: int, within_scan: bool) -> tuple[int, int]:
    """The next marker and where it is; between segments nothing but fill bytes may come before it."""
    found = _NEXT_MARKER.search(data, at)
    if found is None:
        raise _cut_short()
    if not within_scan and data[at : found.start()].strip(b"\xff"):
        raise BadPictureError("the JPEG file is damaged")
    return data[found.start() + 1], found.start()


# ---- WebP (RFC 9649) -------------------------------------------------------------------------------------------------


def _size_extended(body: bytes) -> tuple[int, int]:
    return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")


def _size_lossy(body: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _size_lossless(body: bytes) -> tuple[int, int]:
    (bits,) = struct.unpack_from("<I", body, 1)
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


_WEBP_SIZES: dict[bytes, Callable[[bytes], tuple[int, int]]] = {
    b"VP8X": _size_extended,
    b"VP8 ": _size_lossy,
    b"VP8L": _size_lossless,
}


def _examine_webp(data: bytes, limits: PictureLimits) -> FileInfo:
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        raise _cut_short()
    if length + 8 < len(data):
        raise _followed()
    at, info = 12, None
    while at < len(data):
        kind, (size,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        if kind in (b"ANIM", b"ANMF"):
            raise BadPictureError("it is animated")
        if kind in _WEBP_SIZES:
            info = _bounded("webp", *_WEBP_SIZES[kind](data[at + 8 : at + 18]), limits)
        at += 8 + size + size % 2
    if info is None or at != len(data):
        raise BadPictureError("the WebP file is damaged")
    return info
