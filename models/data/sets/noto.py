"""Noto emoji (Google): 64x64 pictures in colour on white, as an npm package carries them.

Whole subcategories are held out, so what ``valid`` and ``test`` show is new to a model. They hold each glyph once, in
its base form; ``train`` holds its own glyphs in all skin tones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.data.files import read_files
from models.data.images import ImageData
from models.data.npz import read_npz
from models.data.packages import npm
from models.data.sets.base import DataSet
from models.data.splits import SPLITS, Split

_ARCHIVE = "noto.npz"
_GLYPHS = "emoji.json"
_PICTURES = "img/google/64"
_VERSION = "16.0.0"

HELD_OUT: dict[Split, frozenset[str]] = {
    "test": frozenset(
        {
            *("animal-marine", "plant-flower", "food-fruit", "drink", "event", "musical-instrument", "computer"),
            *("hand-fingers-partial", "person-resting", "face-tongue", "face-unwell"),
            *("transport-air", "place-geographic", "zodiac", "flag"),
        }
    ),
    "valid": frozenset(
        {
            *("animal-bug", "animal-reptile", "plant-other", "food-vegetable", "food-sweet", "award-medal"),
            *("household", "mail", "hands", "face-smiling", "cat-face", "transport-water", "place-other"),
            *("place-religious", "warning"),
        }
    ),
}
"""The subcategories that are held out: varied, about a tenth of all base glyphs for each split."""


def split_of(subcategory: str) -> Split:
    """The split in which all glyphs of a subcategory are."""
    return next((split for split, held_out in HELD_OUT.items() if subcategory in held_out), "train")


def _pictures(glyph: dict[str, Any], split: Split) -> Iterator[str]:
    """The file names of a glyph: its base form, and for training its skin tones."""
    variants = glyph.get("skin_variations", {}).values() if split == "train" else ()
    return (form["image"] for form in (glyph, *variants) if form["has_img_google"])


def _prepare(package: Path, folder: Path) -> None:
    glyphs = json.loads((package / _GLYPHS).read_text(encoding="utf-8"))
    glyphs.sort(key=lambda glyph: glyph["sort_order"])
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        chosen = [glyph for glyph in glyphs if split_of(glyph["subcategory"]) == split]
        names = [name for glyph in chosen for name in _pictures(glyph, split)]
        arrays[f"images_{split}"] = read_files([package / _PICTURES / name for name in names], channels=3).numpy()
        arrays[f"names_{split}"] = np.array([Path(name).stem for name in names])
    np.savez_compressed(folder / _ARCHIVE, **arrays)


def _read(folder: Path, split: Split) -> ImageData:
    return read_npz(folder / _ARCHIVE)[split]


NOTO = DataSet(
    title="Noto emoji",
    source=f"npm package emoji-datasource-google {_VERSION}",
    licence="Apache-2.0 (the pictures), MIT (the package)",
    notice="Noto Emoji, Copyright (c) Google LLC; emoji-data, Copyright (c) 2013 Cal Henderson",
    licence_file="LICENSE",
    weights_may_ship=True,
    classes=(),
    shape=(3, 64, 64),
    counts={"train": 3_277, "valid": 193, "test": 191},
    files={_GLYPHS: "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f"},
    unpack=npm("emoji-datasource-google", _VERSION),
    prepare=_prepare,
    read=_read,
)
