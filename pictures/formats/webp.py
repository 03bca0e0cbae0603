"""WebP (RFC 9649)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from pictures.info import MAX_PROFILE, BadPictureError, FileInfo, PictureLimits, check_trailer, cut_short


def _size_extended(body: bytes) -> tuple[int, int]:
    return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")


def _size_lossy(body: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _size_lossless(body: bytes) -> tuple[int, int]:
    (bits,) = struct.unpack_from("<I", body, 1)
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


_SIZES: dict[bytes, Callable[[bytes], tuple[int, int]]] = {
    b"VP8X": _size_extended,
    b"VP8 ": _size_lossy,
    b"VP8L": _size_lossless,
}


def is_webp(data: bytes) -> bool:
    """Whether the file begins as WebP files do."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def examine(data: bytes, limits: PictureLimits, counted: bool) -> FileInfo:
    """What the file says; its decoder itself checks that the data are whole."""
    (length,) = struct.unpack_from("<I", data, 4)
    end = length + 8
    if end > len(data):
        raise cut_short()
    check_trailer(data, end)
    at, size, others = 12, None, dict[bytes, bytes]()
    while at < end:
        kind, (long,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
        if kind in (b"ANIM", b"ANMF"):
            raise BadPictureError("it is animated")
        if kind in _SIZES:
            size = _SIZES[kind](data[at + 8 : at + 18])
            limits.check(*size)
        if kind in (b"ICCP", b"EXIF") and long <= MAX_PROFILE:
            others.setdefault(kind, data[at + 8 : at + 8 + long])
        at += 8 + long + long % 2
    if size is None or at != end:
        raise BadPictureError("the WebP file is damaged")
    return FileInfo("webp", *size, False, data[:end], others.get(b"ICCP"), others.get(b"EXIF"))
