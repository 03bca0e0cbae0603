"""Folders of image files: class folders (``root/<class>/*.png``; the folder's name is the class) and plain ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from models.data.files import EXTENSIONS, image_files, read_files, subfolders
from models.data.images import DataError, ImageData


def read_folders(
    root: Path, *, size: int | None = None, channels: int | None = None, classes: Sequence[str] | None = None
) -> ImageData:
    """Read all images of the class folders in ``root``; files of other kinds are passed over.

    Transparent images are laid on white. Without ``channels`` the set is grey if all its files are, else colour.

    Args:
        size: crop to the central square and resize to this many pixels; None needs files that are all of one size.
        channels: 1 converts to grey, 3 to colour.
        classes: the class names, if another split has set them; None takes the folders that are there.

    Raises:
        DataError: no images, a damaged one, several sizes, or a folder that is no class.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    found = subfolders(root)
    names = tuple(classes) if classes is not None else tuple(found)
    strangers = sorted(set(found) - set(names))
    if strangers:
        raise DataError(f"{root} has class folders that the training split has not: {', '.join(strangers)}")
    files = [(path, names.index(name)) for name in found for path in image_files(root / name)]
    if not files:
        kinds = ", ".join(sorted(EXTENSIONS))
        raise DataError(f"{root} holds no images; put them into one folder a class ({root.name}/<class>/*: {kinds})")
    images = read_files([path for path, _ in files], size=size, channels=channels)
    return ImageData(images, torch.tensor([label for _, label in files]), names, root.name)


def read_plain(root: Path, *, size: int | None = None, channels: int | None = None) -> ImageData:
    """Read all images that lie in ``root`` itself, without labels; the arguments are those of :func:`read_folders`.

    Raises:
        DataError: no images, a damaged one, or several sizes.
    """
    paths = image_files(root)
    if not paths:
        raise DataError(f"{root} holds no images ({', '.join(sorted(EXTENSIONS))})")
    return ImageData(read_files(paths, size=size, channels=channels), None, (), root.name)
