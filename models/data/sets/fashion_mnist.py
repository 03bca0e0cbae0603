"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 70,000 grey pictures of clothes, 28x28, ten balanced classes.

The 60,000 training images of the original are split: the last 5,000 are ``valid``, for choosing bandwidths and
checkpoints, and ``train`` is the 55,000 before them. ``test`` is the original's 10,000.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from layouts.idx import IdxFiles, find_idx
from models.data.idx import read_idx_pair
from models.data.images import ImageData
from models.data.packages import debian
from models.data.sets.base import DataSet
from models.data.splits import Split

_FOLDER = "usr/share/datasets/fashion-mnist"
_TRAIN = 55_000
_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FILES = {
    f"{_FOLDER}/train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    f"{_FOLDER}/train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    f"{_FOLDER}/t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    f"{_FOLDER}/t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}


def _prepare(package: Path, folder: Path) -> None:
    for file in _FILES:
        shutil.copy(package / file, folder)


def _read(folder: Path, split: Split) -> ImageData:
    part = "test" if split == "test" else "train"
    files = find_idx(folder).get(part, IdxFiles(None, None))
    data = read_idx_pair(files, f"fashion-mnist/{split}", torch.arange(len(_CLASSES)), _CLASSES)
    wanted = {"train": slice(0, _TRAIN), "valid": slice(_TRAIN, None), "test": slice(None)}
    return data.subset(wanted[split])


FASHION_MNIST = DataSet(
    title="Fashion-MNIST",
    source="Debian package dataset-fashion-mnist",
    licence="MIT (Expat)",
    notice="Copyright (c) 2017 Zalando SE",
    licence_file="usr/share/doc/dataset-fashion-mnist/copyright",
    weights_may_ship=True,
    classes=_CLASSES,
    shape=(1, 28, 28),
    counts={"train": _TRAIN, "valid": 5_000, "test": 10_000},
    files=_FILES,
    unpack=debian("dataset-fashion-mnist"),
    prepare=_prepare,
    read=_read,
)
