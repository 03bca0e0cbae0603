"""Picture files of a training folder are decoded as those of requests are."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data.files import decode, extent
from models.data.images import DataError
from tests.hostile.corpus import Harmless, Hostile, chunk, corpus, encoded, harmless, noise, png
from tests.pictures.profiles import ADOBE, in_srgb, profile


def saved(folder: Path, data: bytes, name: str = "picture.png") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def turned(data_format: str, orientation: int) -> bytes:
    """A picture with a white left half, which a camera has turned."""
    picture = Image.new("L", (28, 16), 0)
    picture.paste(255, (0, 0, 14, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture, data_format, exif=exif)


@pytest.mark.parametrize("data_format", ["PNG", "JPEG"])
def test_a_phone_s_picture_is_trained_upright(tmp_path: Path, data_format: str) -> None:
    """Orientation 6: what is stored on the left is shown at the top."""
    path = saved(tmp_path, turned(data_format, 6))
    pixels = decode(path)
    assert pixels.shape == (1, 1, 28, 16)
    assert pixels[0, 0, :12].min() > 200
    assert pixels[0, 0, 16:].max() < 50
    assert extent(path) == (16, 28)


def test_sixteen_bits_are_read(tmp_path: Path) -> None:
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    assert decode(saved(tmp_path, encoded(Image.fromarray(levels), "PNG"))).flatten().tolist() == list(range(256))


def test_transparent_levels_lie_on_white(tmp_path: Path) -> None:
    data = png(4, 1, b"\0" + bytes([0b00011011]), chunk(b"tRNS", struct.pack(">H", 1)), depth=2)
    assert decode(saved(tmp_path, data)).flatten().tolist() == [0, 255, 170, 255]


def test_colour_profiles_count(tmp_path: Path) -> None:
    colours = np.array([[(200, 100, 50), (60, 90, 160)]], dtype=np.uint8)
    found = decode(saved(tmp_path, encoded(Image.fromarray(colours), "PNG", icc_profile=profile(ADOBE))))
    assert np.abs(found[0].permute(1, 2, 0).numpy() - in_srgb(colours, ADOBE)).max() <= 2


@pytest.mark.parametrize("one", list(harmless()), ids=lambda one: one.name)
def test_what_is_harmless_in_a_request_is_harmless_here(tmp_path: Path, one: Harmless) -> None:
    found, plain = decode(saved(tmp_path, one.data)), decode(saved(tmp_path, one.plain))
    assert found.tolist() == plain.tolist()


LARGE = {"png bomb", "png strip", "png tape", "png thread", "webp canvas bomb"}
"""Refused in a request for their size alone; here they are the operator's own."""


@pytest.mark.parametrize("one", [one for one in corpus() if one.name not in LARGE], ids=lambda one: one.name)
def test_what_is_refused_in_a_request_is_refused_here(tmp_path: Path, one: Hostile) -> None:
    with pytest.raises(DataError, match=r"picture\.png can't be used: .*; mend or remove it"):
        decode(saved(tmp_path, one.data))


def test_a_file_that_can_t_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png can't be read: No such file"):
        decode(tmp_path / "gone.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_grey_stays_grey_and_the_rest_is_colour(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path, encoded(noise(8, 6, "RGBA" if mode == "RGBA" else "RGB").convert(mode), "PNG"))
    assert decode(path).shape == (1, 1 if mode in ("1", "L", "LA") else 3, 6, 8)
