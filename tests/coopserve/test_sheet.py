"""The sheet of pictures: each lies in its row and column, enlarged without smoothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from coopserve.sheet import Row, draw

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

RED, GREEN, BLUE, VIOLET = (200, 0, 0), (0, 200, 0), (0, 0, 200), (150, 0, 150)


def picture(colour: Colour) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (28, 28), colour).save(file, "PNG")
    return file.getvalue()


def box(sheet: Image.Image, colour: Colour) -> Box:
    """The left, top, right and bottom edge of all pixels of a colour."""
    there = np.all(np.asarray(sheet) == colour, axis=2)
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.fixture
def sheet() -> Image.Image:
    first = Row("a long title of a row", [[picture(RED), picture(GREEN)], [picture(BLUE)]])
    return draw(("left", "right"), [first, Row("b", [[picture(VIOLET)], []])])


def test_pictures_are_enlarged_and_whole(sheet: Image.Image) -> None:
    for colour in (RED, GREEN, BLUE, VIOLET):
        left, top, right, bottom = box(sheet, colour)
        assert (right - left, bottom - top) == (56, 56)
        inside = np.asarray(sheet.crop((left, top, right, bottom)))
        assert (inside == colour).all()


def test_rows_and_columns_line_up(sheet: Image.Image) -> None:
    red, green, blue, violet = (box(sheet, colour) for colour in (RED, GREEN, BLUE, VIOLET))
    assert red[1] == green[1] == blue[1]
    assert red[0] == violet[0]
    assert violet[1] > red[3]
    assert red[2] < green[0] < green[2] < blue[0]
    assert blue[0] - green[2] > green[0] - red[2]  # blocks stand apart


def test_titles_are_beside_and_headings_above(sheet: Image.Image) -> None:
    ink = np.asarray(sheet).max(axis=2) < 100
    left, top, _, bottom = box(sheet, RED)
    assert ink[top:bottom, :left].any()
    assert ink[:top, left : left + 56].any()
    assert not ink[top:bottom, left - 20 : left].any()  # a title ends before its pictures
