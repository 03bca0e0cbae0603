"""Pictures of any size go into a model's shape and come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pictures.framing import Fit, Frame, on_white
from tests.hostile.corpus import noise

FITS: tuple[Fit, ...] = ("cover", "contain", "stretch")
SIDES = st.integers(1, 60)


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize("fit", FITS)
def test_a_picture_of_the_right_size_is_not_touched(fit: Fit) -> None:
    picture = noise(8, 8)
    frame = Frame.of((8, 8), (8, 8), fit)
    assert frame.apply(picture).tobytes() == picture.tobytes()
    assert frame.undo(picture, Image.new("RGB", (8, 8)), None).tobytes() == picture.tobytes()


def test_cover_takes_the_middle() -> None:
    frame = Frame.of((30, 10), (8, 8), "cover")
    assert frame.window == (10, 0, 20, 10)
    assert frame.place == (0, 0, 8, 8)


def test_contain_fills_the_margin_with_white() -> None:
    frame = Frame.of((30, 10), (9, 9), "contain")
    assert (frame.window, frame.place) == ((0, 0, 30, 10), (0, 3, 9, 6))
    fitted = levels(frame.apply(Image.new("L", (30, 10), 0)))
    assert (fitted[:3] == 255).all()
    assert (fitted[6:] == 255).all()
    assert (fitted[3:6] == 0).all()


def test_stretch_takes_all() -> None:
    frame = Frame.of((30, 10), (8, 8), "stretch")
    assert (frame.window, frame.place) == ((0, 0, 30, 10), (0, 0, 8, 8))


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(FITS))
def test_every_size_goes_in_and_comes_back(w: int, h: int, width: int, height: int, fit: Fit) -> None:
    frame = Frame.of((w, h), (width, height), fit)
    assert frame.apply(Image.new("RGB", (w, h))).size == (width, height)
    back = frame.undo(Image.new("RGB", (width, height), "red"), Image.new("RGB", (w, h), "blue"), None)
    assert back.size == (w, h)
    red = levels(back)[..., 0] == 255
    left, top, right, bottom = frame.window
    assert red[top:bottom, left:right].all()
    assert red.sum() == (right - left) * (bottom - top)


@pytest.mark.parametrize("x", range(45))
def test_a_hidden_pixel_on_the_edge_of_two_stays_hidden(x: int) -> None:
    hidden = Image.new("L", (45, 1), 0)
    hidden.putpixel((x, 0), 255)
    mask = levels(Frame.of((45, 1), (22, 1), "contain").apply_mask(hidden))[0]
    overlapped = [k for k in range(22) if k * 45 < (x + 1) * 22 and (k + 1) * 45 > x * 22]
    assert np.flatnonzero(mask).tolist() == overlapped


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(FITS), st.data())
def test_a_hidden_pixel_stays_hidden(w: int, h: int, width: int, height: int, fit: Fit, chance: st.DataObject) -> None:
    frame = Frame.of((w, h), (width, height), fit)
    left, top, right, bottom = frame.window
    x, y = chance.draw(st.integers(left, right - 1)), chance.draw(st.integers(top, bottom - 1))
    hidden = Image.new("L", (w, h), 0)
    hidden.putpixel((x, y), 255)
    mask = levels(frame.apply_mask(hidden))
    assert mask.max() == 255
    assert set(np.unique(mask)) <= {0, 255}
    assert frame.apply_mask(Image.new("L", (w, h), 0)).getextrema() == (0, 0)
    everything = levels(frame.apply_mask(Image.new("L", (w, h), 255)))
    left, top, right, bottom = frame.place
    assert (everything[top:bottom, left:right] == 255).all()
    assert everything.sum() == 255 * (right - left) * (bottom - top)


def test_one_hidden_pixel_of_a_large_picture() -> None:
    hidden = Image.new("L", (4000, 4000), 0)
    hidden.putpixel((1234, 3210), 255)
    mask = levels(Frame.of((4000, 4000), (8, 8), "cover").apply_mask(hidden))
    assert mask.sum() == 255
    assert mask[3210 // 500, 1234 // 500] == 255


@pytest.mark.parametrize("fit", FITS)
def test_a_result_shows_in_hidden_pixels_alone(fit: Fit) -> None:
    base = noise(30, 20)
    hidden = Image.new("L", base.size, 0)
    hidden.paste(255, (12, 8, 18, 12))
    back = Frame.of(base.size, (8, 8), fit).undo(Image.new("RGB", (8, 8), "red"), base, hidden)
    outside = levels(hidden) == 0
    assert (levels(back)[outside] == levels(base)[outside]).all()
    assert (levels(back)[~outside] == (255, 0, 0)).all()


def test_grey_and_colour_meet_in_colour() -> None:
    frame = Frame.of((8, 8), (8, 8), "cover")
    assert frame.undo(Image.new("L", (8, 8), 9), noise(8, 8), None).mode == "RGB"
    assert frame.undo(noise(8, 8), Image.new("L", (8, 8), 9), None).mode == "RGB"
    assert frame.undo(Image.new("L", (8, 8), 9), Image.new("L", (8, 8)), None).mode == "L"


def test_transparency_is_laid_on_white() -> None:
    picture = Image.new("LA", (2, 1), (0, 0))
    picture.putpixel((1, 0), (100, 255))
    assert list(on_white(picture, 1).get_flattened_data()) == [255, 100]
    assert list(on_white(picture, 3).get_flattened_data()) == [(255, 255, 255), (100, 100, 100)]
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert on_white(half, 1).getpixel((0, 0)) == 127


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_without_transparency_colours_stay(mode: str) -> None:
    picture = noise(mode=mode)
    assert on_white(picture, len(picture.getbands())).tobytes() == picture.tobytes()
