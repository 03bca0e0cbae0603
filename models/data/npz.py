"""NumPy archives: ``images`` (or ``x``) and ``labels`` (or ``y``), all in one set or with a suffix for each split.

``images_train``/``labels_train`` and so on, or the ``x_train``/``y_train`` of older archives, give a set its splits;
``classes`` names the labels; ``conditions`` (with the same suffixes) are what each image is made from. Arrays of Python
objects (pickles) are refused.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from models.data.images import DataError, ImageData

SUFFIXES = ("", "train", "valid", "test")


def read_npz(path: Path) -> dict[str, ImageData]:
    """Read every set of an archive.

    Images and conditions are uint8 ``[N, H, W]``, ``[N, C, H, W]`` or ``[N, H, W, C]``; labels are whole numbers
    ``[N]`` from 0.

    Returns:
        The sets by split name; a set without a suffix is under the empty name.

    Raises:
        DataError: it is not such an archive, or its arrays don't fit together.
    """
    arrays = _arrays(path)
    images, labels = _by_suffix(arrays, ("images", "x")), _by_suffix(arrays, ("labels", "y"))
    if not images:
        raise DataError(f"{path} must hold images (or x), or images_train and images_test; it holds {sorted(arrays)}")
    conditions = _by_suffix(arrays, ("conditions",))
    for what, found in (("labels", labels), ("conditions", conditions)):
        if found and found.keys() != images.keys():
            raise DataError(f"{path}: images and {what} must come in pairs; it holds {sorted(arrays)}")
    numbers = {part: _labels(value, path) for part, value in labels.items()}
    classes = _classes(arrays, numbers)
    return {
        part: ImageData(
            _pixels(value, f"{path}: images"),
            numbers.get(part),
            classes,
            f"{path.stem}/{part}" if part else path.stem,
            _pixels(conditions[part], f"{path}: conditions") if conditions else None,
        )
        for part, value in images.items()
    }


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        # Opened here, because np.load leaves its own file open when the archive is damaged.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise DataError(f"{path} holds one bare array; save it with np.savez(path, images=..., labels=...)")
            with archive:
                return {key: archive[key] for key in archive.files}
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a readable npz archive without pickled objects: {error}") from error


def _by_suffix(arrays: Mapping[str, NDArray[Any]], stems: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    found = {}
    for suffix in SUFFIXES:
        for stem in stems:
            key = f"{stem}_{suffix}" if suffix else stem
            if key in arrays:
                found[suffix] = arrays[key]
    return found


def _pixels(array: NDArray[Any], what: str) -> torch.Tensor:
    if array.dtype != np.uint8:
        raise DataError(f"{what} must be uint8 (0-255), got {array.dtype}; scale and convert them")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


def _labels(array: NDArray[Any], path: Path) -> torch.Tensor:
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{path}: labels must be whole numbers [N], got {array.dtype} {list(array.shape)}")
    return torch.from_numpy(array.astype(np.int64))


def _classes(arrays: Mapping[str, NDArray[Any]], labels: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    if "classes" in arrays and labels:
        return tuple(str(name) for name in np.atleast_1d(arrays["classes"]))
    highest = max((int(value.max()) for value in labels.values() if len(value)), default=-1)
    return tuple(str(k) for k in range(highest + 1))
