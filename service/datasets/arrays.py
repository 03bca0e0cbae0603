"""What an npz archive holds, by the heads of its arrays and its labels; the images are never read."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from service.datasets.unpacking import BadDataError, DataLimits, TooMuchDataError

_ARRAYS = 64
_ENDING = ".npy"
_IMAGES, _LABELS = ("images", "x"), ("labels", "y")


def is_npz(archive: zipfile.ZipFile) -> bool:
    """Whether an archive is one of NumPy's."""
    names = archive.namelist()
    return bool(names) and all(name.endswith(_ENDING) for name in names)


def check_npz(archive: zipfile.ZipFile, limits: DataLimits) -> None:
    """Refuse an archive whose arrays are not as large as they claim, too large, or Python objects.

    Raises:
        BadDataError: so it is, or it has no images.
        TooMuchDataError: its arrays are too large.
    """
    infos = archive.infolist()
    if len(infos) > _ARRAYS:
        raise TooMuchDataError(f"it has {len(infos)} arrays; at most {_ARRAYS} are accepted")
    if sum(info.file_size for info in infos) > limits.max_bytes:
        raise TooMuchDataError(f"its arrays have more than {limits.max_bytes} bytes")
    for info in infos:
        try:
            with archive.open(info) as file:
                shape, dtype, begin = _head(file)
        except (ValueError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise BadDataError(f"the array {info.filename} can't be read ({error})") from None
        if dtype.hasobject:
            raise BadDataError(f"the array {info.filename} has Python objects, which are not read")
        if begin + math.prod(shape) * dtype.itemsize != info.file_size:
            raise BadDataError(f"the array {info.filename} is not as large as its shape {list(shape)} says")
    if not any(_stem(info.filename) in _IMAGES for info in infos):
        raise BadDataError("it holds no images: save them with np.savez(path, images=..., labels=...)")


def counts(path: Path) -> tuple[int, dict[str, int] | None]:
    """How many images an archive that was checked has, and how many of each class, if it has labels."""
    images, labels, names = 0, list[NDArray[Any]](), None
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            stem = _stem(info.filename)
            with archive.open(info) as file:
                if stem in _IMAGES:
                    images += _head(file)[0][0]
                elif stem in _LABELS:
                    labels.append(np.lib.format.read_array(file, allow_pickle=False))
                elif stem == "classes":
                    names = np.atleast_1d(np.lib.format.read_array(file, allow_pickle=False))
    if not labels or not all(np.issubdtype(part.dtype, np.integer) for part in labels):
        return images, None
    found = Counter(int(label) for part in labels for label in part.ravel())
    named = names if names is not None and all(0 <= label < len(names) for label in found) else None
    return images, {str(label if named is None else named[label]): found[label] for label in sorted(found)}


def _stem(filename: str) -> str:
    return filename.removesuffix(_ENDING).partition("_")[0]


def _head(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape and type of an array, and where its data begin."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return tuple(shape), dtype, file.tell()
