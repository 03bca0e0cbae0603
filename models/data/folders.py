"""Image files as sets: those of class folders, whose names are the classes, and plain ones without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from layouts.listing import PICTURES
from models.data.files import read_files
from models.data.images import DataError, ImageData

_ENDINGS = ", ".join(sorted(PICTURES))


def read_classes(
    groups: Mapping[str, Sequence[Path]],
    name: str,
    *,
    classes: Sequence[str],
    size: int | None = None,
    channels: int | None = None,
) -> ImageData:
    """Read the files of class folders.

    Transparent images are laid on white. Without ``channels`` the set is grey if all its files are, else colour.

    Args:
        groups: the files of each class; a class without files is left out of them.
        name: what messages call the set.
        classes: the class names, as the training split has set them.
        size: crop to the central square and resize to this many pixels; None needs files that are all of one size.
        channels: 1 converts to grey, 3 to colour.

    Raises:
        DataError: no images, a damaged one, several sizes, or a folder that is no class.
    """
    if strangers := sorted(groups.keys() - set(classes)):
        raise DataError(f"{name} has class folders that the training split has not: {', '.join(strangers)}")
    files = [(path, classes.index(group)) for group, paths in groups.items() for path in paths]
    if not files:
        raise DataError(f"{name} holds no images; put them into one folder a class ({name}/<class>/*: {_ENDINGS})")
    images = read_files([path for path, _ in files], size=size, channels=channels)
    return ImageData(images, torch.tensor([label for _, label in files]), tuple(classes), name)


def read_plain(paths: Sequence[Path], name: str, *, size: int | None = None, channels: int | None = None) -> ImageData:
    """Read image files without labels; the arguments are those of :func:`read_classes`.

    Raises:
        DataError: no images, a damaged one, or several sizes.
    """
    if not paths:
        raise DataError(f"{name} holds no images ({_ENDINGS})")
    return ImageData(read_files(paths, size=size, channels=channels), None, (), name)
