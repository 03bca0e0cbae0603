"""What masks hide, whichever way they were drawn."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pictures.masks import of_mask, of_transparency
from tests.hostile.corpus import noise

SIZE = (40, 30)


def hidden(mask: Image.Image) -> np.ndarray:
    found = of_mask(mask)
    assert (found.mask.mode, found.mask.size) == ("L", mask.size)
    assert set(np.unique(np.asarray(found.mask))) <= {0, 255}
    return np.asarray(found.mask) == 255


def hole(size: tuple[int, int] = SIZE) -> np.ndarray:
    expected = np.zeros((size[1], size[0]), dtype=bool)
    expected[10:20, 5:25] = True
    return expected


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "RGBA", "LA"])
def test_white_on_black(mode: str) -> None:
    mask = Image.fromarray((hole() * 255).astype(np.uint8)).convert(mode)
    assert np.array_equal(hidden(mask), hole())


def test_levels_from_128_count_as_white() -> None:
    mask = Image.frombytes("L", (4, 1), bytes([0, 127, 128, 255]))
    assert hidden(mask).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_white_strokes_on_a_transparent_canvas(mode: str) -> None:
    mask = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    ImageDraw.Draw(mask).rectangle((5, 10, 24, 19), fill=(255, 255, 255, 255))
    assert np.array_equal(hidden(mask.convert(mode)), hole())


def test_soft_and_half_transparent_strokes() -> None:
    """The edge of a brush fades; the colour of a pixel that nearly is not there says nothing."""
    mask = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    mask.paste((170, 170, 170, 3), (4, 9, 26, 21))
    mask.paste((255, 255, 255, 120), (5, 10, 25, 20))
    assert np.array_equal(hidden(mask), hole())


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_copy_of_the_picture_with_an_erased_hole(mode: str) -> None:
    mask = noise(*SIZE, "RGB").convert("RGBA")
    mask.paste((0, 0, 0, 0), (5, 10, 25, 20))
    assert np.array_equal(hidden(mask.convert(mode)), hole())


def test_a_black_sheet_with_an_erased_hole() -> None:
    mask = Image.new("RGBA", SIZE, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (5, 10, 25, 20))
    assert np.array_equal(hidden(mask), hole())


def test_transparency_that_does_not_vary_says_nothing() -> None:
    mask = Image.fromarray((hole() * 255).astype(np.uint8)).convert("LA")
    mask.putalpha(255)
    assert np.array_equal(hidden(mask), hole())
    assert hidden(Image.new("RGBA", SIZE, (0, 0, 0, 0))).all()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 127), (10, 100)])
def test_two_values_below_half_are_told(low: int, high: int) -> None:
    mask = Image.fromarray(np.where(hole(), high, low).astype(np.uint8))
    found = of_mask(mask)
    assert found.mask.getbbox() is None
    assert (found.warning or "").startswith(
        f"its two values, {low} and {high}, are both below 128, so nothing is filled"
    )


@pytest.mark.parametrize("mask", [Image.new("L", SIZE, 0), noise(*SIZE, "L").point([0] * 200 + [90] * 56)])
def test_a_mask_that_hides_nothing_is_told(mask: Image.Image) -> None:
    assert (of_mask(Image.new("L", SIZE, 0)).warning or "").startswith("it hides nothing")
    assert of_mask(mask).warning


def test_what_hides_something_is_not_told() -> None:
    assert of_mask(Image.fromarray((hole() * 255).astype(np.uint8))).warning is None
    assert of_mask(Image.new("L", SIZE, 255)).warning is None


def test_an_image_s_own_transparency() -> None:
    image = noise(*SIZE, "RGB").convert("RGBA")
    image.putalpha(Image.fromarray(np.where(hole(), 127, 128).astype(np.uint8)))
    assert np.array_equal(np.asarray(of_transparency(image).mask) == 255, hole())
    assert of_transparency(image).warning is None
    image.putalpha(255)
    assert of_transparency(image).warning == "nothing of it is transparent, so nothing is filled in"
