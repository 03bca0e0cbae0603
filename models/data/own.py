"""A user's own data: which files a path holds, and how they are read."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from models.data.folders import class_names, read_folders
from models.data.idx import find_idx, read_idx_pair
from models.data.images import DataError
from models.data.npz import read_npz
from models.data.splits import Parts


def find_parts(path: Path, *, size: int | None, channels: int | None) -> Parts:
    """How to read each part of the data at ``path``.

    A path is an ``.npz`` archive; a folder with ``train-images-idx3-ubyte`` and the like; a folder with ``train/`` and
    ``test/`` (and perhaps ``valid/`` or ``val/``), each of class folders; or one folder of class folders.

    Args:
        size: for image files, see :func:`models.data.folders.read_folders`.
        channels: likewise.

    Raises:
        DataError: it is none of these.
    """
    if path.is_file():
        if path.suffix != ".npz":
            raise DataError(f"{path} is neither an .npz archive nor a folder")
        archive = read_npz(path)
        return {part: partial(archive.__getitem__, part) for part in archive}
    if find_idx(path, "train-images-idx3-ubyte"):
        files = {"train": "train", "test": "t10k"}
        classes = read_idx_pair(path, "train", None, path.name).classes
        return {part: partial(read_idx_pair, path, stem, classes, path.name) for part, stem in files.items()}
    subfolders = class_names(path)
    if {"train", "test"} <= set(subfolders):
        folders = {"train": "train", "test": "test", "valid": "valid" if "valid" in subfolders else "val"}
        classes = tuple(class_names(path / "train"))
        return {
            part: partial(read_folders, path / folder, size=size, channels=channels, classes=classes)
            for part, folder in folders.items()
            if folder in subfolders
        }
    return {"": partial(read_folders, path, size=size, channels=channels)}
