"""Eighteen thousand star-shaped bodies that are made here, as spectral maps: 32x32 grey, one a body.

0 to 255 stand for -1 to 1; the few values beyond are cut off. :mod:`surfaces.maps` says what a cell means,
:mod:`surfaces.primitives` how a body is made. All follows from a seed, so the set is the same wherever it is made.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from models.data.images import ImageData
from models.data.npz import read_npz
from models.data.sets.base import DataSet
from models.data.splits import Split, choose
from surfaces.harmonics import Grid, Transform
from surfaces.maps import DEVIATIONS, to_map
from surfaces.primitives import PRIMITIVES, sample

_ARCHIVE = "primitives.npz"
_CLASSES = tuple(PRIMITIVES)
_COUNTS: dict[Split, int] = {"train": 16_000, "valid": 1_000, "test": 1_000}
_SEEDS: dict[Split, int] = {"train": 1, "valid": 2, "test": 3}
_RINGS = 64
_LICENCE = "LICENSE"


def make(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps of so many bodies, the kinds in turn: uint8 ``[count, 32, 32]``, and the place of each kind."""
    random, grid = np.random.default_rng(seed), Grid.gauss(_RINGS)
    transform = Transform(len(DEVIATIONS), grid)
    labels = np.arange(count) % len(_CLASSES)
    maps = np.empty((count, len(DEVIATIONS), len(DEVIATIONS)), dtype=np.uint8)
    for k, label in enumerate(labels):
        found = to_map(transform.analyse(sample(_CLASSES[label], random, grid)), DEVIATIONS)
        maps[k] = np.rint((np.clip(found, -1, 1) + 1) * 127.5).astype(np.uint8)
    return maps, labels


def _unpack(folder: Path) -> Path:
    """Nothing is downloaded; the bodies are nobody's work but this program's."""
    (folder / _LICENCE).write_text("Made by coopserve (surfaces/primitives.py), under its Apache-2.0 licence.\n")
    return folder


def _prepare(package: Path, folder: Path) -> None:
    del package
    arrays: dict[str, np.ndarray] = {"classes": np.array(_CLASSES)}
    for split, count in _COUNTS.items():
        arrays[f"images_{split}"], arrays[f"labels_{split}"] = make(count, _SEEDS[split])
    np.savez_compressed(folder / _ARCHIVE, **arrays)  # type: ignore[arg-type]


def _read(folder: Path, split: Split) -> ImageData:
    parts = read_npz(folder / _ARCHIVE)
    return choose({part: partial(parts.__getitem__, part) for part in parts}, split, "primitives")


PRIMITIVE_MAPS = DataSet(
    title="Spectral maps of primitive bodies (made here)",
    source="coopserve itself",
    licence="Apache-2.0",
    notice="Copyright (c) 2026 the coopserve authors",
    licence_file=_LICENCE,
    weights_may_ship=True,
    classes=_CLASSES,
    shape=(1, 32, 32),
    counts=_COUNTS,
    files={},
    unpack=_unpack,
    prepare=_prepare,
    read=_read,
)
