"""Fluent emoji (Microsoft): 1,594 pairs of line art and the same drawing in flat colours, 64x64.

Two npm packages carry the drawings as SVG, under the same names. They are rendered once, when the set is fetched:
``conditions`` is the line art, black on white, and ``images`` the drawing in colour on white.

A drawing often comes in several variants: a man, a woman and a person at the same work, a heart in ten colours, a clock
at every hour. All variants of one family are in one split, so what is held out is new to a model.
"""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.images import ImageData
from models.data.npz import read_npz
from models.data.packages import npm, several
from models.data.sets.base import DataSet
from models.data.splits import SPLITS, Split

_ARCHIVE = "fluent.npz"
_SIZE = 64
_VERSION = "1.2.6"
_FLAT, _LINES = "flat/icons.json", "high-contrast/icons.json"
_HELD_OUT: dict[int, Split] = {0: "test", 1: "valid"}

_VARIANTS = {
    *("boy", "girl", "man", "mans", "men", "person", "people", "woman", "womans", "women"),
    *("black", "blue", "brown", "dark", "green", "grey", "light", "orange", "pink", "purple", "red", "white", "yellow"),
    *("down", "left", "right", "up", "downwards", "upwards", "oncoming", "closed", "open"),
    *("large", "medium", "small"),
    *("1st", "2nd", "3rd", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
}
"""Words of a name that tell a variant from its family."""


def family(name: str) -> str:
    """The family of an icon: ``cook`` of ``man-cook`` and of ``cook``.

    It is the first word of the name that tells neither who nor which colour, way, size or number; else the first word.
    """
    words = name.split("-")
    return next((word for word in words if word not in _VARIANTS), words[0])


def split_of(name: str) -> Split:
    """The split of an icon, by a hash of its family: about a tenth each is held out for ``test`` and ``valid``."""
    return _HELD_OUT.get(zlib.crc32(family(name).encode()) % 10, "train")


def _render(icons: dict[str, Any], name: str, mode: str) -> NDArray[np.uint8]:
    import resvg_py  # only a fetch draws, and a machine that only computes may lack these
    from PIL import Image

    icon = icons["icons"][name]
    width, height = (icon.get(side, icons[side]) for side in ("width", "height"))
    head = f'xmlns="http://www.w3.org/2000/svg" width="{_SIZE}" height="{_SIZE}" viewBox="0 0 {width} {height}"'

    png = resvg_py.svg_to_bytes(f"<svg {head}>{icon['body']}</svg>", background="white", skip_system_fonts=True)
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image.convert(mode))


def _prepare(package: Path, folder: Path) -> None:
    flat, lines = (json.loads((package / file).read_text(encoding="utf-8")) for file in (_FLAT, _LINES))
    names = sorted(flat["icons"].keys() & lines["icons"].keys())
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        chosen = [name for name in names if split_of(name) == split]
        arrays[f"images_{split}"] = np.stack([_render(flat, name, "RGB") for name in chosen])
        arrays[f"conditions_{split}"] = np.stack([_render(lines, name, "L") for name in chosen])
        arrays[f"names_{split}"] = np.array(chosen)
    np.savez_compressed(folder / _ARCHIVE, **arrays)


def _read(folder: Path, split: Split) -> ImageData:
    return read_npz(folder / _ARCHIVE)[split]


FLUENT = DataSet(
    title="Fluent emoji, line art and flat colour",
    source=f"npm packages @iconify-json/fluent-emoji-flat and -high-contrast {_VERSION}",
    licence="MIT",
    notice="Copyright (c) Microsoft Corporation (Fluent Emoji)",
    licence_file="flat/info.json",
    weights_may_ship=True,
    classes=(),
    shape=(3, 64, 64),
    pairs=True,
    counts={"train": 1_272, "valid": 162, "test": 160},
    files={
        _FLAT: "f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63",
        _LINES: "c522fb74fef65ccef67b38dfdbf0f3dcd4353339e4b8faec4aa45faf83ed4739",
    },
    unpack=several(
        {
            "flat": npm("@iconify-json/fluent-emoji-flat", _VERSION),
            "high-contrast": npm("@iconify-json/fluent-emoji-high-contrast", _VERSION),
        }
    ),
    prepare=_prepare,
    read=_read,
)
