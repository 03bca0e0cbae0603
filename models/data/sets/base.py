"""What is known about a data set that a package carries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.data.images import ImageData
from models.data.packages import Unpacker
from models.data.splits import Split


@dataclass(frozen=True)
class DataSet:
    """One known data set.

    Args:
        title: its name for people.
        source: the package that carries it.
        licence: the licence's short name.
        notice: whose work it is, as the licence asks to be said.
        licence_file: the licence text within the package; it is kept beside the data.
        weights_may_ship: whether weights trained on it may be given away with the product.
        classes: the names of the labels.
        shape: channels, height and width of the images.
        counts: the number of images of each split.
        files: SHA-256 of each file that is used, by its path within the package.
        unpack: brings the package.
        prepare: (unpacked package, empty folder) -> None; writes the data set as ``read`` expects it.
        read: (prepared folder, split) -> images.
        pairs: whether each image has a condition image.
    """

    title: str
    source: str
    licence: str
    notice: str
    licence_file: str
    weights_may_ship: bool
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    counts: Mapping[Split, int]
    files: Mapping[str, str]
    unpack: Unpacker
    prepare: Callable[[Path, Path], None]
    read: Callable[[Path, Split], ImageData]
    pairs: bool = False
