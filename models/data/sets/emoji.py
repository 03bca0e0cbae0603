"""Emoji drawn twice: 3,786 pictures of Twemoji and the same 3,786 of Noto, 64x64 in colour on white.

Two npm packages carry them under the same names. ``conditions`` is the Twemoji picture (A) and ``images`` the Noto one
(B), so every split reads as aligned pairs. :func:`models.data.catalog.load_domains` reads ``train`` and ``valid``
without their pairing, and the 378 pairs of ``test`` as the truth that scores a translation.

An emoji often comes in several variants: skin tones, a man, a woman and a person at the same work, people who face the
other way, hours of the clock, territories that fly one flag. All variants of one family are in one split, so what is
held out is new to a model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.data.files import read_files
from models.data.images import ImageData
from models.data.npz import read_npz
from models.data.packages import npm, several
from models.data.sets.base import DataSet
from models.data.splits import SPLITS, Split

_ARCHIVE = "emoji.npz"
_GLYPHS = "emoji.json"
_VERSION = "16.0.0"
_SIDES = {"conditions": "twitter", "images": "google"}
"""The package and folder of pictures that each array comes from."""

HELD_OUT: dict[Split, int] = {"test": 378, "valid": 341}
"""The pictures of each split that is held out: a tenth of all, then a tenth of the rest."""

_SEED = 0
_LARGEST = 18  # pictures of a family that may be held out (six skin tones of three people), so that no drawing rules

_SKIN = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_VARIANTS = _SKIN | {"2640", "2642", "27A1", "FE0F", "200D"}  # skin; woman, man; to the right; how the rest is joined
_PEOPLE = {"1F466", "1F467", "1F468", "1F469", "1F9D1", "1F9D2"}  # boy, girl, man, woman, person, child
_ALIKE = {
    **{name: name for name in ("arrow", "geometric", "heart", "keycap", "person", "skin-tone", "time")},
    **dict.fromkeys(("family", "person-symbol"), "family"),
}
"""Subgroups whose emoji are turned, coloured or recombined forms of a few drawings: each is one family."""
_SAME_FLAG = {
    "1F1E7-1F1FB": "1F1F3-1F1F4",
    "1F1F8-1F1EF": "1F1F3-1F1F4",  # Bouvet Island, Svalbard: Norway
    "1F1E8-1F1F5": "1F1EB-1F1F7",
    "1F1F2-1F1EB": "1F1EB-1F1F7",  # Clipperton, Saint Martin: France
    "1F1E8-1F1F6": "1F1F8-1F1E6",  # Sark, for which Noto has Saudi Arabia's
    "1F1E9-1F1EC": "1F1EE-1F1F4",  # Diego Garcia: British Indian Ocean Territory
    "1F1EA-1F1E6": "1F1EA-1F1F8",  # Ceuta and Melilla: Spain
    "1F1ED-1F1F2": "1F1E6-1F1FA",  # Heard and McDonald Islands: Australia
    "1F1FA-1F1F2": "1F1FA-1F1F8",  # US outlying islands: United States
}


@dataclass(frozen=True)
class Picture:
    """One emoji in one form.

    Args:
        id: its code points, as ``1F44B-1F3FD``.
        name: the short name of the emoji, whatever its skin tone.
        subgroup: Unicode's subgroup of it.
        family: what all its variants share.
        file: the picture's name in both packages.
    """

    id: str
    name: str
    subgroup: str
    family: str
    file: str


def family(codes: str, subgroup: str) -> str:
    """What the variants of an emoji share: a subgroup of look-alikes, or the code points that tell its drawing.

    Args:
        codes: code points of the emoji without skin tone, as ``1F469-200D-1F373``.
        subgroup: Unicode's subgroup of it.
    """
    if subgroup in _ALIKE:
        return _ALIKE[subgroup]
    points = codes.split("-")
    telling = ["person" if point in _PEOPLE else point for point in points if point not in _VARIANTS]
    drawing = "-".join(telling or points)
    return _SAME_FLAG.get(drawing, drawing)


def pictures_of(glyphs: Sequence[dict[str, Any]]) -> list[Picture]:
    """Every form of the package's emoji that both styles draw, in the package's order, skin tones after their base."""
    found = []
    for glyph in sorted(glyphs, key=lambda glyph: glyph["sort_order"]):
        subgroup = glyph["subcategory"]
        kin = family(glyph["unified"], subgroup)
        for form in (glyph, *glyph.get("skin_variations", {}).values()):
            if all(form[f"has_img_{side}"] for side in _SIDES.values()):
                found.append(Picture(form["unified"], glyph["short_name"], subgroup, kin, form["image"]))
    return found


def draw(pictures: Sequence[Picture]) -> list[Split]:
    """The split of each picture.

    Families are taken in an order drawn with a fixed seed. Each goes to ``test`` if it still fits into the number of
    ``HELD_OUT``, else to ``valid``, else to ``train``; families of more than 18 pictures always train.
    """
    families: dict[str, int] = {}
    for picture in pictures:
        families[picture.family] = families.get(picture.family, 0) + 1
    names, room, chosen = sorted(families), dict(HELD_OUT), dict[str, Split]()
    # The legacy generator's stream is frozen by NumPy's policy, so the split is the same with every version.
    for at in np.random.RandomState(_SEED).permutation(len(names)):
        size = families[names[at]]
        split = next((split for split in room if size <= min(room[split], _LARGEST)), None)
        if split is not None:
            chosen[names[at]] = split
            room[split] -= size
    return [chosen.get(picture.family, "train") for picture in pictures]


def _prepare(package: Path, folder: Path) -> None:
    glyphs = json.loads((package / _SIDES["images"] / _GLYPHS).read_text(encoding="utf-8"))
    pictures = pictures_of(glyphs)
    splits = draw(pictures)
    arrays: dict[str, Any] = {}
    for split in SPLITS:
        chosen = [picture for picture, its in zip(pictures, splits, strict=True) if its == split]
        for array, side in _SIDES.items():
            paths = [package / side / "img" / side / "64" / picture.file for picture in chosen]
            arrays[f"{array}_{split}"] = read_files(paths, channels=3).numpy()
        for array in ("id", "name", "subgroup", "family"):
            arrays[f"{array}_{split}"] = np.array([getattr(picture, array) for picture in chosen])
    np.savez_compressed(folder / _ARCHIVE, **arrays)


def _read(folder: Path, split: Split) -> ImageData:
    return read_npz(folder / _ARCHIVE)[split]


EMOJI = DataSet(
    title="Emoji in two styles, Twemoji and Noto",
    source=f"npm packages emoji-datasource-twitter and emoji-datasource-google {_VERSION}",
    licence="CC-BY-4.0 (Twemoji), Apache-2.0 (Noto), MIT (the packages)",
    notice=(
        "Twemoji, Copyright (c) Twitter, Inc and other contributors, https://github.com/jdecked/twemoji, under "
        "https://creativecommons.org/licenses/by/4.0/, changed: laid on white; Noto Emoji, Copyright (c) Google LLC; "
        "emoji-data, Copyright (c) 2013 Cal Henderson"
    ),
    licence_file="twitter/LICENSE",
    weights_may_ship=True,
    classes=(),
    shape=(3, 64, 64),
    pairs=True,
    counts={"train": 3_067, "valid": 341, "test": 378},
    files={
        f"{side}/{_GLYPHS}": "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f"
        for side in _SIDES.values()
    },
    unpack=several({side: npm(f"emoji-datasource-{side}", _VERSION) for side in _SIDES.values()}),
    prepare=_prepare,
    read=_read,
)
