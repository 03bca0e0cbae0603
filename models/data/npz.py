"""NumPy archives: ``images`` (or ``x``) and ``labels`` (or ``y``), all in one set or with a suffix for each split.

``images_train``/``labels_train`` and so on, or the ``x_train``/``y_train`` of older archives, give a set its splits;
``classes`` names the labels; ``conditions`` (with the same suffixes) are what each image is made from. Arrays of Python
objects (pickles) are refused.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from models.data.images import DataError, ImageData, numbered

SUFFIXES = ("", "train", "valid", "test")
_NONE = torch.zeros(0, dtype=torch.int64)


def read_npz(path: Path) -> dict[str, ImageData]:
    """Read every set of an archive.

    Images and conditions are uint8 ``[N, H, W]``, ``[N, C, H, W]`` or ``[N, H, W, C]``; labels are whole numbers
    ``[N]``. The labels of the images to train on are the classes: one without such images is none.

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
    names = [str(name) for name in np.atleast_1d(arrays["classes"])] if "classes" in arrays else None
    known = torch.cat([numbers[part] for part in ("", "train") if part in numbers] or list(numbers.values()) or [_NONE])
    sets = {}
    for part, value in images.items():
        name = f"{path.stem}/{part}" if part else path.stem
        marks, classes = numbered(numbers[part], known, str(path), names) if part in numbers else (None, ())
        given = _pixels(conditions[part], f"{path}: conditions") if conditions else None
        sets[part] = ImageData(_pixels(value, f"{path}: images"), marks, classes, name, given)
    return sets


def unused_classes(path: Path) -> list[str]:
    """The classes that an archive names without an image to learn from, which are left out.

    Raises:
        DataError: as :func:`read_npz`.
    """
    arrays = _arrays(path, lambda key: key.partition("_")[0] in ("classes", "labels", "y"))
    labels = _by_suffix(arrays, ("labels", "y"))
    if "classes" not in arrays or not labels:
        return []
    used = set(labels["train" if "train" in labels else next(iter(labels))].tolist())
    return [str(name) for value, name in enumerate(np.atleast_1d(arrays["classes"])) if value not in used]


def _arrays(path: Path, wanted: Callable[[str], bool] = lambda key: True) -> dict[str, NDArray[Any]]:
    try:
        # Opened here, because np.load leaves its own file open when the archive is damaged.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise DataError(f"{path} holds one bare array; save it with np.savez(path, images=..., labels=...)")
            with archive:
                return {key: archive[key] for key in archive.files if wanted(key)}
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
