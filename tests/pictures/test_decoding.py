"""Pictures as clients send them, and what is kept of them."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pictures.decoding import read
from pictures.exif import orientation
from pictures.files import BadPictureError, PictureLimits, TooLargeError, examine
from pictures.png import picture_of, png_of, size_of
from pictures.uris import file_of_data_uri
from tests.hostile.corpus import PNG, chunk, encoded, noise, png, rows

LIMITS = PictureLimits(2**20, 100_000)


def opened(data: bytes) -> Image.Image:
    """What is kept of a file: written and read again."""
    picture = Image.open(io.BytesIO(png_of(read(data, LIMITS))))
    picture.load()
    return picture


def same(one: Image.Image, other: Image.Image) -> bool:
    return (one.mode, one.size) == (other.mode, other.size) and one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    ("mode", "kept"),
    [("1", "L"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA")],
)
def test_a_png_of_any_mode_keeps_its_pixels(mode: str, kept: str) -> None:
    sent = noise(mode="RGBA" if "A" in mode else "RGB").convert(mode)
    found = opened(encoded(sent, "PNG"))
    assert same(found, sent.convert(kept))
    assert found.format == "PNG"


@pytest.mark.parametrize(("colour", "bits"), [(0, 1), (0, 2), (0, 4), (3, 1), (3, 4)])
def test_pixels_of_few_bits(colour: int, bits: int) -> None:
    line = b"\0" + bytes([0b00011011] * bits)
    palette = [chunk(b"PLTE", bytes(range(48)))] if colour == 3 else []
    found = opened(png(8, 2, line * 2, *palette, depth=bits, colour=colour))
    assert found.size == (8, 2)
    assert len(set(found.get_flattened_data())) > 1


def test_sixteen_bits_become_eight() -> None:
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    found = opened(encoded(Image.fromarray(levels), "PNG"))
    assert found.mode == "L"
    assert np.array_equal(np.array(found), levels // 257)


def test_a_transparent_level_becomes_alpha() -> None:
    levels = np.full((4, 4), 1000, dtype=np.uint16)
    levels[0, 0] = 2000
    deep = opened(encoded(Image.fromarray(levels), "PNG", transparency=2000))
    assert deep.mode == "LA"
    alpha = np.array(deep.getchannel("A"))
    assert (alpha[0, 0], alpha.sum()) == (0, 15 * 255)
    grey = Image.new("L", (4, 4), 9)
    grey.putpixel((0, 0), 7)
    shallow = opened(encoded(grey, "PNG", transparency=7))
    assert shallow.mode == "LA"
    assert shallow.getpixel((0, 0)) == (7, 0)


def test_a_palette_with_transparency_keeps_it() -> None:
    sent = noise(mode="RGBA").quantize(16)
    assert sent.mode == "P"
    assert same(opened(encoded(sent, "PNG")), sent.convert("RGBA"))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_decoded(mode: str, progressive: bool) -> None:
    data = encoded(noise(mode=mode), "JPEG", progressive=progressive)
    assert same(opened(data), Image.open(io.BytesIO(data)).convert("L" if mode == "L" else "RGB"))


@pytest.mark.parametrize(("mode", "kept"), [("RGB", "RGB"), ("RGBA", "RGBA")])
def test_a_webp_is_decoded(mode: str, kept: str) -> None:
    assert same(opened(encoded(noise(mode=mode), "WEBP", lossless=True, exact=True)), noise(mode=kept))
    assert opened(encoded(noise(mode=mode), "WEBP")).mode == kept


def test_an_interlaced_png_is_whole() -> None:
    """Seven passes of a picture so small that some are empty."""
    header = struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, 1)
    passes = b"\0\x01" + b"\0\x02" + b"\0\x03\x04" + b"\0\x05\0\x06" + b"\0\x07\x08\x09"
    body = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(passes)), chunk(b"IEND", b"")]
    found = opened(PNG + b"".join(body))
    assert sorted(found.get_flattened_data()) == list(range(1, 10))
    with pytest.raises(BadPictureError, match="do not make"):
        read(PNG + b"".join([body[0], chunk(b"IDAT", zlib.compress(passes[:-1])), body[2]]), LIMITS)


@pytest.mark.parametrize("turn", range(1, 9))
def test_it_is_turned_upright(turn: int) -> None:
    """The corner that a camera's orientation calls the top left is there."""
    picture = Image.new("L", (32, 16), 0)
    picture.paste(255, (0, 0, 8, 8))  # the top left of the stored pixels
    exif = Image.Exif()
    exif[0x0112] = turn
    found = opened(encoded(picture, "JPEG", exif=exif, quality=95))
    assert found.size == ((32, 16) if turn < 5 else (16, 32))
    right, bottom = found.width - 4, found.height - 4
    corners = {"top left": (4, 4), "top right": (right, 4), "bottom right": (right, bottom), "bottom left": (4, bottom)}
    light = [name for name, place in corners.items() if found.getpixel(place) > 128]  # type: ignore[operator]
    expected = ["top left", "top right", "bottom right", "bottom left"] * 2
    assert light == [expected[turn - 1]]


def test_nothing_but_pixels_is_kept() -> None:
    text = PngInfo()
    text.add_text("secret", "where I live")
    profile = b"a profile" * 20
    found = opened(encoded(noise(), "PNG", pnginfo=text, icc_profile=profile, dpi=(300, 300)))
    assert found.info == {}


def test_a_camera_s_further_pictures_are_left_out() -> None:
    first = noise()
    data = encoded(first, "MPO", save_all=True, append_images=[noise(16, 16)])
    assert opened(data).size == first.size
    assert opened(data + bytes(100)).size == first.size


def test_what_was_sent_is_told() -> None:
    data = encoded(noise(), "WEBP")
    info = examine(data, LIMITS)
    assert (info.format, info.width, info.height, info.size, info.grey) == ("webp", 48, 32, (48, 32), False)


@pytest.mark.parametrize("size", [(48, 32), (2000, 1000)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
def test_a_picture_that_is_kept_comes_back(mode: str, size: tuple[int, int]) -> None:
    """By whichever way it is written."""
    picture = noise(*size, mode)
    png = png_of(picture)
    assert png == png_of(picture.copy())
    assert size_of(png) == size
    assert same(picture_of(png), picture)


def test_limits_include_their_ends() -> None:
    data = encoded(noise(), "PNG")
    read(data, PictureLimits(len(data), 48 * 32))
    with pytest.raises(TooLargeError, match="bytes"):
        read(data, PictureLimits(len(data) - 1, 48 * 32))
    with pytest.raises(TooLargeError, match="48x32 pixels"):
        read(data, PictureLimits(len(data), 48 * 32 - 1))


def test_sides_are_bounded_and_so_is_their_ratio() -> None:
    limits = PictureLimits(2**20, 100_000, max_side=600, max_ratio=50)
    for width, height in ((600, 12), (12, 600), (50, 1), (1, 50)):
        assert read(png(width, height, rows(width, height)), limits).size == (width, height)
    for width, height in ((601, 13), (13, 601)):
        with pytest.raises(TooLargeError, match=f"{width}x{height} pixels; a side may have at most 600"):
            read(png(width, height, rows(width, height)), limits)
    for width, height in ((51, 1), (1, 51), (600, 11)):
        with pytest.raises(BadPictureError, match=f"{width}x{height} pixels; a side may be at most 50 times"):
            read(png(width, height, rows(width, height)), limits)


def uri(data: bytes, head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "data:;base64,", "DATA:text/html;charset=x;BASE64,", "data:image/gif;base64,"]
)
def test_a_data_uri_gives_its_file_whatever_its_type(head: str) -> None:
    assert file_of_data_uri(uri(b"some bytes", head), LIMITS.max_bytes) == b"some bytes"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data:",
        "data:image/png,abc",
        "data:image/png;base64",
        "http://x/y.png",
        "file:///etc/passwd",
        "img_1",
        "%00",
    ],
)
def test_what_is_no_data_uri_is_refused(text: str) -> None:
    with pytest.raises(BadPictureError, match="neither the id"):
        file_of_data_uri(text, LIMITS.max_bytes)


@pytest.mark.parametrize("tail", ["A", "AA=A", "AAAAA", "AA-_", "é", "%", "%zz", "\x00\x00\x00\x00", "====", "AA%00"])
def test_base64_is_taken_by_the_letter(tail: str) -> None:
    with pytest.raises(BadPictureError, match="base64"):
        file_of_data_uri(f"data:image/png;base64,{tail}", LIMITS.max_bytes)


@pytest.mark.parametrize(
    ("sent", "file"),
    [
        ("AAAA\n", bytes(3)),
        ("AA\r\nAA\r\n", bytes(3)),
        (" AA AA\t", bytes(3)),
        ("AAA", bytes(2)),
        ("AA", bytes(1)),
        ("AA%3D%3D", bytes(1)),
        ("%2B%2b+/", b"\xfb\xef\xbf"),
        ("AAAA%0A", bytes(3)),
        ("", b""),
    ],
)
def test_base64_is_taken_as_browsers_take_it(sent: str, file: bytes) -> None:
    for head in ("data:image/png;base64,", "data:image/png; base64,", " data:;base64 ,"):
        assert file_of_data_uri(head + sent, 100) == file


def test_a_long_data_uri_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(TooLargeError, match="bytes"):
        file_of_data_uri("data:image/png;base64," + "!" * (LIMITS.max_bytes * 4 // 3 + 8), LIMITS.max_bytes)
    assert len(file_of_data_uri(uri(bytes(LIMITS.max_bytes)), LIMITS.max_bytes)) == LIMITS.max_bytes


GOOD: dict[str, bytes] = {
    "png": encoded(noise(9, 7), "PNG"),
    "jpeg": encoded(noise(9, 7), "JPEG"),
    "webp": encoded(noise(9, 7), "WEBP"),
    "lossless webp": encoded(noise(9, 7, "RGBA"), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", GOOD)
@given(chance=st.data())
def test_a_damaged_file_is_refused_or_read_but_nothing_else(name: str, chance: Any) -> None:
    data = bytearray(GOOD[name])
    for _ in range(chance.draw(st.integers(1, 4))):
        data[chance.draw(st.integers(0, len(data) - 1))] = chance.draw(st.integers(0, 255))
    data = data[: chance.draw(st.integers(0, len(data)))]
    try:
        picture = read(bytes(data), LIMITS)
    except (BadPictureError, TooLargeError):
        return
    assert picture.width * picture.height <= LIMITS.max_pixels


def trns(*levels: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(levels)}H", *levels))


@pytest.mark.parametrize(
    ("bits", "clear", "grey"), [(1, 0, [0, 255]), (1, 1, [0, 255]), (2, 1, [0, 85, 170, 255]), (4, 2, [0, 17, 34])]
)
def test_grey_of_few_bits_keeps_its_transparency(bits: int, clear: int, grey: list[int]) -> None:
    """The transparent level is written in the file's own bits."""
    packed = int("".join(f"{level:0{bits}b}" for level in range(len(grey))).ljust(8 * 2, "0"), 2).to_bytes(2, "big")
    width = len(grey)
    line = b"\0" + packed[: (width * bits + 7) // 8]
    found = read(png(width, 1, line, trns(clear), depth=bits), LIMITS)
    assert found.mode == "LA"
    assert np.asarray(found.getchannel("L"))[0].tolist() == grey
    assert np.asarray(found.getchannel("A"))[0].tolist() == [0 if k == clear else 255 for k in range(width)]


def test_colours_of_sixteen_bits_keep_their_transparency() -> None:
    line = b"\0" + struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0x1111)
    found = read(png(2, 1, line, trns(0x1234, 0x5678, 0x9ABC), depth=16, colour=2), LIMITS)
    assert found.mode == "RGBA"
    assert np.asarray(found.getchannel("A")).tolist() == [[0, 255]]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_its_size_is_known_before_it_is_decoded(format: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(noise(), format, exif=exif)
    for counted in (False, True):
        assert examine(data, LIMITS, counted=counted).size == read(data, LIMITS).size
    assert read(data, LIMITS).size == ((48, 32) if turn < 5 else (32, 48))


@given(st.binary(max_size=200))
def test_any_exif_data_say_something(data: bytes) -> None:
    for head in (b"", b"II*\0", b"MM\0*", b"II*\0\x08\0\0\0", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0"):
        assert 1 <= orientation(head + data) <= 8
