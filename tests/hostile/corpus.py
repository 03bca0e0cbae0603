"""Files that a server of pictures must survive, made here byte by byte; ``python -m tests.hostile.corpus`` lists them.

Each is small; what makes it hostile is what it claims or what it becomes.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


class Harmless(NamedTuple):
    """A file that looks bad and is not, and a plain one with the same pixels."""

    name: str
    data: bytes
    plain: bytes


class Hostile(NamedTuple):
    """A file, and what the refusal must say."""

    name: str
    data: bytes
    kind: str
    says: str


def noise(width: int = 48, height: int = 32, mode: str = "RGB") -> Image.Image:
    """A picture of which no format can leave much out."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, pixels: bytes, *extra: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG of these scan lines, with further chunks before its data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b""))
    return PNG + b"".join(parts)


def rows(width: int, height: int) -> bytes:
    """Scan lines of grey pixels."""
    return (b"\0" + b"\x7f" * width) * height


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    """The same JPEG with another size in its header."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file of these chunks."""
    body = b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def extended(width: int, height: int) -> tuple[bytes, bytes]:
    """The header chunk of an extended WebP file."""
    return b"VP8X", bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("run.sh", "echo")
    return file.getvalue()


def corpus() -> Iterator[Hostile]:
    """All files."""
    yield from _strangers()
    yield from _pngs()
    yield from _jpegs()
    yield from _webps()


def _strangers() -> Iterator[Hostile]:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    billion = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb">]><svg>&b;</svg>'
    others = {
        "empty": b"",
        "one byte": b"\x89",
        "text": b"not a picture",
        "svg": svg,
        "svg with entities": billion,
        "html": b"<html><img src=x onerror=alert(1)>",
        "pdf": b"%PDF-1.7\n",
        "zip": archive(),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "gif": encoded(noise(), "GIF"),
        "gif89a that is a script": b"GIF89a/*" + b"\0" * 20 + b"*/=1;alert(1)",
        "tiff": encoded(noise(), "TIFF"),
        "bmp": encoded(noise(), "BMP"),
        "ico": encoded(noise(32, 32, "RGBA"), "ICO"),
        "jpeg 2000": encoded(noise(), "JPEG2000"),
        "portable pixmap": encoded(noise(), "PPM"),
        "riff that is no webp": b"RIFF\x04\0\0\0WAVE",
        "png after a byte": b"\0" + png(8, 8, rows(8, 8)),
    }
    for name, data in others.items():
        yield Hostile(name, data, "invalid-image", "empty" if not data else "not a PNG, JPEG or WebP")


def _pngs() -> Iterator[Hostile]:
    good = png(8, 8, rows(8, 8))
    frames = encoded(noise(), "PNG", save_all=True, append_images=[noise().rotate(90)])
    damaged = bytearray(good)
    damaged[-20] ^= 1
    says = "do not make"
    yield Hostile("png cut in its signature", good[:10], "invalid-image", "cut short")
    yield Hostile("png cut in its data", good[:-20], "invalid-image", "cut short")
    yield Hostile("png without its end", good[:-12], "invalid-image", "cut short")
    yield Hostile("png with a wrong checksum", bytes(damaged), "invalid-image", "checksum")
    yield Hostile("png with too few rows", png(8, 8, rows(8, 4)), "invalid-image", says)
    yield Hostile("png with too many rows", png(8, 8, rows(8, 9)), "invalid-image", says)
    yield Hostile("png that inflates without end", png(8, 8, bytes(5_000_000)), "invalid-image", says)
    yield Hostile("png without data", PNG + good[8:33] + chunk(b"IEND", b""), "invalid-image", says)
    yield Hostile("png whose data are no zlib stream", good.replace(b"IDATx", b"IDATy"), "invalid-image", "checksum")
    yield Hostile("png of a jpeg", PNG + encoded(noise(), "JPEG"), "invalid-image", "")
    yield Hostile("png without a header", PNG + good[33:], "invalid-image", "header")
    yield Hostile("png with an unknown colour type", png(8, 8, rows(8, 8), colour=5), "invalid-image", "colour type")
    yield Hostile("png with an impossible depth", png(8, 8, rows(3, 8), depth=3), "invalid-image", "decoded")
    yield Hostile("png with an unknown filter", png(8, 8, b"\x09" * 72), "invalid-image", "decoded")
    yield Hostile("png of no width", png(0, 8, bytes(8)), "invalid-image", "no pixels")
    yield Hostile("png of great size", png(2**31 - 1, 2**31 - 1, b""), "image-too-large", "2147483647x2147483647")
    yield Hostile("png bomb", png(50_000, 50_000, b""), "image-too-large", "50000x50000")
    yield Hostile("png strip", png(40_000_001, 1, b""), "image-too-large", "at most 40000000")
    yield Hostile("png tape", png(40_000, 1, rows(40_000, 1)), "image-too-large", "at most 16384")
    yield Hostile("png thread", png(1, 16_000, rows(1, 16_000)), "invalid-image", "100 times")
    yield Hostile("animated png", frames, "invalid-image", "animated")
    yield Hostile("png and zip", good + archive(), "invalid-image", "follow the end")
    yield Hostile("png and script", good + b"<script>alert(1)</script>", "invalid-image", "follow the end")


def _jpegs() -> Iterator[Hostile]:
    good, says = encoded(noise(), "JPEG"), "do not make"
    progressive = encoded(noise(), "JPEG", progressive=True)
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    yield Hostile("jpeg cut in its header", good[:30], "invalid-image", "cut short")
    yield Hostile("jpeg cut in its data", good[: len(good) // 2], "invalid-image", "cut short")
    yield Hostile("jpeg of three bytes", good[:3], "invalid-image", "cut short")
    yield Hostile("jpeg without a picture", b"\xff\xd8\xff\xd9", "invalid-image", "no picture")
    yield Hostile("jpeg with a gap", good[:20] + b"gap" + good[20:], "invalid-image", "damaged")
    yield Hostile("jpeg with too little data", with_jpeg_size(good, 6000, 6000), "invalid-image", says)
    yield Hostile("jpeg bomb", with_jpeg_size(good, 60_000, 60_000), "image-too-large", "60000x60000")
    yield Hostile("jpeg of no height", with_jpeg_size(good, 48, 0), "invalid-image", "no pixels")
    yield Hostile("jpeg of many scans", progressive[:-2] + last_scan * 200 + b"\xff\xd9", "invalid-image", "scans")
    at = progressive.index(b"\xff\xc2") + 5
    large = progressive[:at] + struct.pack(">HH", 5000, 8000) + progressive[at + 4 : -2] + last_scan * 30 + b"\xff\xd9"
    yield Hostile("large jpeg of many scans", large, "invalid-image", "save it with fewer")
    yield Hostile("jpeg and zip", good + archive(), "invalid-image", "follow the end")
    yield Hostile("jpeg and jpeg and zip", good + good + archive(), "invalid-image", "follow the end")


def _webps() -> Iterator[Hostile]:
    good = encoded(noise(), "WEBP")
    frames = encoded(noise(), "WEBP", save_all=True, append_images=[noise().rotate(90)])
    picture = good[20:]
    larger = bytearray(good)
    larger[26:30] = struct.pack("<HH", 4000, 4000)
    yield Hostile("webp cut in its header", good[:14], "invalid-image", "cut short")
    yield Hostile("webp cut in its data", good[: len(good) // 2], "invalid-image", "cut short")
    yield Hostile("webp without a picture", riff(), "invalid-image", "damaged")
    yield Hostile("webp whose size is cut, too", riff((b"VP8 ", picture[:200])), "invalid-image", "decoded")
    yield Hostile("animated webp", frames, "invalid-image", "animated")
    yield Hostile("webp canvas bomb", riff(extended(2**24, 2**24), (b"VP8 ", picture)), "image-too-large", "16777216")
    yield Hostile("webp that gives two sizes", riff(extended(500, 500), (b"VP8 ", picture)), "invalid-image", "")
    yield Hostile("webp with too little data", bytes(larger), "invalid-image", "decoded")
    yield Hostile("webp and zip", good + archive(), "invalid-image", "follow the end")


def harmless() -> Iterator[Harmless]:
    """Files whose pixels are whole, whatever else is wrong with them."""
    plain = png(8, 8, rows(8, 8))
    bomb = zlib.compress(bytes(50_000_000), 9)
    texts = {b"zTXt": b"a\0\0" + bomb, b"iTXt": b"a\0\1\0\0\0" + bomb, b"iCCP": b"a\0\0" + bomb}
    for kind, body in texts.items():
        yield Harmless(f"png with a bomb in {kind.decode()}", png(8, 8, rows(8, 8), chunk(kind, body)), plain)
    many = [chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9))] * 70
    yield Harmless("png with many texts", png(8, 8, rows(8, 8), *many), plain)
    broken = {
        "pointer": b"II*\0\xff\xff\xff\xff",
        "order": b"XX*\0",
        "count": b"II*\0\x08\0\0\0\xff\xff",
    }
    jpeg, webp = encoded(noise(), "JPEG"), encoded(noise(), "WEBP")
    for name, exif in broken.items():
        yield Harmless(f"png with a broken exif {name}", png(8, 8, rows(8, 8), chunk(b"eXIf", exif)), plain)
        yield Harmless(f"jpeg with a broken exif {name}", encoded(noise(), "JPEG", exif=b"Exif\0\0" + exif), jpeg)
    film = b"\0\0\0\x18ftypmp42" + bytes(64) + b"mdat" + bytes(range(256))
    trailers = {
        "a line break": b"\r\n",
        "padding": b"\xff" * 100,
        "zeros": bytes(1000),
        "a film": film,
        "a maker's trailer": b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1700000000000SEFHk\0\0\0SEFT",
        "padding and a film": b"\xff" * 16 + film,
    }
    for name, trailer in trailers.items():
        yield Harmless(f"jpeg and {name}", jpeg + trailer, jpeg)
        yield Harmless(f"png and {name}", plain + trailer, plain)
        yield Harmless(f"webp and {name}", webp + trailer, webp)
    yield Harmless("jpeg and a smaller jpeg", jpeg + encoded(noise(16, 16), "JPEG"), jpeg)
    yield Harmless("jpeg and a broken jpeg", jpeg + b"\xff" + jpeg[:100], jpeg)


if __name__ == "__main__":
    for hostile in corpus():
        print(f"{hostile.name}: {len(hostile.data)} bytes, {hostile.kind}")
