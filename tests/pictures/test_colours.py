"""Colours in other spaces become sRGB, on the way in, once."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from pictures.decoding import read
from pictures.files import PictureLimits
from tests.hostile.corpus import encoded, noise
from tests.pictures.profiles import ADOBE, P3, Space, grey_profile, in_srgb, profile, srgb_of

LIMITS = PictureLimits(2**22, 2**22)
COLOURS = np.array(
    [[(0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 100, 50), (60, 90, 160), (90, 130, 70), (255, 220, 190)]],
    dtype=np.uint8,
)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(read(data, LIMITS)).astype(float)


@pytest.mark.parametrize("space", [ADOBE, P3])
@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_a_profile_s_colours_become_srgb(space: Space, format: str, options: dict[str, bool]) -> None:
    sent = Image.fromarray(COLOURS)
    found = pixels(encoded(sent, format, icc_profile=profile(space), **options))
    assert np.abs(found - in_srgb(COLOURS, space)).max() <= 2
    assert np.abs(found - COLOURS).max() > 8  # it matters


@pytest.mark.parametrize("space", [ADOBE, P3])
def test_a_jpeg_s_profile_counts_as_well(space: Space) -> None:
    flat = Image.new("RGB", (16, 16), (200, 100, 50))
    decoded = np.asarray(read(encoded(flat, "JPEG", quality=100), LIMITS))[0, 0]
    found = pixels(encoded(flat, "JPEG", quality=100, icc_profile=profile(space)))[8, 8]
    assert np.abs(found - in_srgb(decoded, space)).max() <= 2


def test_a_profile_in_several_parts_is_joined() -> None:
    """A segment of a JPEG holds 64 KB: longer profiles come in parts, by numbers, in any order."""
    long = bytearray(profile(ADOBE)) + bytes(100_000)
    long[0:4] = len(long).to_bytes(4, "big")
    flat = Image.new("RGB", (16, 16), (200, 100, 50))
    whole = pixels(encoded(flat, "JPEG", quality=100, icc_profile=bytes(long)))
    short = pixels(encoded(flat, "JPEG", quality=100, icc_profile=profile(ADOBE)))
    assert np.array_equal(whole, short)


def test_srgb_itself_changes_no_bit() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for mode in ("RGB", "RGBA"):
        sent = noise(mode=mode)
        assert read(encoded(sent, "PNG", icc_profile=srgb), LIMITS).tobytes() == sent.tobytes()


def test_grey_with_a_profile() -> None:
    levels = np.arange(0, 256, 5, dtype=np.uint8)[None]
    found = pixels(encoded(Image.fromarray(levels), "PNG", icc_profile=grey_profile(1.8)))
    assert np.abs(found - srgb_of((levels / 255.0) ** (round(1.8 * 256) / 256))).max() <= 2


def test_transparency_stays() -> None:
    sent = Image.fromarray(COLOURS).convert("RGBA")
    sent.putalpha(Image.fromarray(np.arange(0, 70, 10, dtype=np.uint8)[None]))
    found = read(encoded(sent, "PNG", icc_profile=profile(ADOBE)), LIMITS)
    assert found.mode == "RGBA"
    assert found.getchannel("A").tobytes() == sent.getchannel("A").tobytes()
    assert np.abs(np.asarray(found)[..., :3] - in_srgb(COLOURS, ADOBE)).max() <= 2


def test_a_palette_with_a_profile() -> None:
    sent = Image.fromarray(COLOURS).quantize(8)
    found = pixels(encoded(sent, "PNG", icc_profile=profile(ADOBE)))
    assert np.abs(found - in_srgb(np.asarray(sent.convert("RGB")), ADOBE)).max() <= 2


@pytest.mark.parametrize(
    "broken",
    [b"a profile" * 20, profile(ADOBE)[:200], b"\0" * 200, grey_profile(2.2)],
    ids=["no", "cut", "zeros", "grey"],
)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_profile_that_can_t_be_used_is_left_out(broken: bytes, format: str) -> None:
    sent = noise()
    assert np.array_equal(pixels(encoded(sent, format, icc_profile=broken)), pixels(encoded(sent, format)))


def test_a_printer_s_colours_without_a_profile() -> None:
    data = encoded(noise(mode="CMYK"), "JPEG")
    assert read(data, LIMITS).tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_a_large_picture_is_converted_in_bands() -> None:
    sent = Image.new("RGB", (1500, 1500), (200, 100, 50))
    found = pixels(encoded(sent, "PNG", icc_profile=profile(ADOBE)))
    assert found.min(axis=(0, 1)).tolist() == found.max(axis=(0, 1)).tolist() == found[0, 0].tolist()
