"""Large pictures are worked on in bands: in between, other threads get the interpreter, and copies stay small."""

from __future__ import annotations

from collections.abc import Iterator

_PIXELS = 2**20


def bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom) of about a megapixel that cover a picture of ``size`` from top to bottom."""
    width, height = size
    rows = max(1, _PIXELS // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(height, top + rows)
