"""A sheet of small pictures: a title beside each row, a heading above each block of columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from coopserve.tiles import opened

_SCALE = 2
_GAP = 4
_BLOCK_GAP = 24
_TEXT = 16
_INK, _PAPER = (20, 20, 20), (255, 255, 255)


@dataclass(frozen=True)
class Row:
    """One row of a sheet: for each block of columns its pictures as PNG files, all of one size."""

    title: str
    blocks: Sequence[Sequence[bytes]]


def draw(headings: Sequence[str], rows: Sequence[Row]) -> Image.Image:
    """The sheet.

    Args:
        headings: one for each block of columns.
        rows: top to bottom, each with a block for each heading; a block may have fewer pictures than others.
    """
    font = ImageFont.load_default(_TEXT)
    tiles = [[[opened(data, _SCALE) for data in block] for block in row.blocks] for row in rows]
    width, height = (side + _GAP for side in tiles[0][0][0].size)
    margin = _GAP + round(max(font.getlength(row.title) for row in rows)) + _BLOCK_GAP
    counts = [max(len(row[b]) for row in tiles) for b in range(len(headings))]
    lefts = [margin + sum(counts[:b]) * width + b * _BLOCK_GAP for b in range(len(headings))]
    top = _TEXT + 2 * _GAP
    sheet = Image.new("RGB", (lefts[-1] + counts[-1] * width, top + len(rows) * height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for heading, left in zip(headings, lefts, strict=True):
        pen.text((left, _GAP), heading, _INK, font)
    for r, (row, blocks) in enumerate(zip(rows, tiles, strict=True)):
        y = top + r * height
        pen.text((_GAP, y + (height - _GAP) // 2), row.title, _INK, font, anchor="lm")
        for left, block in zip(lefts, blocks, strict=True):
            for k, tile in enumerate(block):
                sheet.paste(tile, (left + k * width, y))
    return sheet
