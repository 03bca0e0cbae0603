"""All pictures of a job at once: on one contact sheet, or in an archive."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from PIL import Image

_GAP = 2


def contact_sheet(pictures: Sequence[Image.Image], gap: int = _GAP) -> Image.Image:
    """Pictures in rows on white, about as many in a row as there are rows.

    Args:
        pictures: at least one; the largest tells the size of all places.
        gap: pixels between them.
    """
    columns = math.ceil(math.sqrt(len(pictures)))
    width, height = (max(sizes) for sizes in zip(*(picture.size for picture in pictures), strict=True))
    rows = math.ceil(len(pictures) / columns)
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    sheet = Image.new(mode, (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for k, picture in enumerate(pictures):
        sheet.paste(picture.convert(mode), (k % columns * (width + gap), k // columns * (height + gap)))
    return sheet


def write_archive(file: BinaryIO, entries: Mapping[str, bytes]) -> None:
    """Write a ZIP file. Its entries are not compressed: pictures are already."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # without a time: equal jobs give equal archives
