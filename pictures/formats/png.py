"""PNG (ISO/IEC 15948)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from pictures.info import MAX_PROFILE, BadPictureError, FileInfo, PictureLimits, check_trailer

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_SPAN = 65_536
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples a pixel
_GREY = (0, 4)
# x and y of the first pixel, and the steps to the next, of the seven passes of an interlaced picture
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


def examine(data: bytes, limits: PictureLimits, counted: bool) -> FileInfo:
    """What the file says; ``counted``: also check that its data make as many pixels as its header promises."""
    view = memoryview(data)
    chunks = list(_chunks(data))
    kind, start, end = chunks[0]
    if kind != b"IHDR" or end - start != 25:
        raise BadPictureError("the PNG file does not begin with its header")
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, start + 8)
    limits.check(width, height)
    if colour not in _SAMPLES:
        raise BadPictureError(f"the PNG file has an unknown colour type, {colour}")
    if any(kind == b"acTL" for kind, _, _ in chunks):
        raise BadPictureError("it is animated")
    if counted:
        compressed = [view[start + 8 : end - 4] for kind, start, end in chunks if kind == b"IDAT"]
        promised = sum(
            rows * (1 + (columns * depth * _SAMPLES[colour] + 7) // 8)
            for columns, rows in _passes(width, height, bool(interlaced))
            if columns and rows
        )
        if _inflated(compressed, promised) != promised:
            raise BadPictureError(f"its data do not make the {width}x{height} pixels of its header")
    bodies = {kind: bytes(view[start + 8 : end - 4]) for kind, start, end in chunks if kind in (b"iCCP", b"eXIf")}
    return FileInfo(
        "png",
        width,
        height,
        colour in _GREY,
        SIGNATURE + b"".join(view[start:end] for kind, start, end in chunks if kind in _KEPT),
        _profile(bodies.get(b"iCCP", b"")),
        bodies.get(b"eXIf"),
        _clear_scale(colour, depth),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each chunk; raises if a checksum is wrong, or something hides behind the last."""
    view, at, kind = memoryview(data), len(SIGNATURE), b""
    while kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], view[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != checksum:
            raise BadPictureError("the PNG file is damaged: a checksum is wrong")
        yield kind, at, at + 12 + length
        at += 12 + length
    check_trailer(data, at)


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


def _profile(body: bytes) -> bytes | None:
    """The colour profile of an iCCP chunk: a name, a zero, a zero for the method, and a zlib stream."""
    _, _, rest = body.partition(b"\0")
    try:
        inflater = zlib.decompressobj()
        profile = inflater.decompress(rest[1:], MAX_PROFILE)
    except zlib.error:
        return None
    return profile if inflater.eof else None


def _clear_scale(colour: int, depth: int) -> float:
    """tRNS is written in the file's own bits; decoders give 8 bits (but 16 of a single grey)."""
    if colour == 0 and depth < 8:
        return 255 // (2**depth - 1) if depth in (1, 2, 4) else 1
    return 1 / 256 if colour == 2 and depth == 16 else 1
