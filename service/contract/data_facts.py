"""What a look from outside tells of a data set: names of folders and files, and the heads of a few files.

The rules of the layouts are those of the trainers (``models/data/own.py``), which read all of what is found here. A
fact may be unknown, and refuses nothing then: a trainer that can't use the data says so in its record.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

_ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}
_COLOURED = {"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_SPLITS = {"train", "test", "valid", "val"}
_DOMAINS = {"trainA", "trainB", "testA", "testB"}
_IDX = "train-images-idx3-ubyte"
_LOOKED = 50
"""So many pictures tell whether a folder holds pairs side by side; where they disagree it is unknown."""


class NoDataError(Exception):
    """There are no such data. The message says what to do."""


class Known(BaseModel):
    """A data set that can be fetched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: int
    size: tuple[int, int]
    labels: bool
    pairs: bool


class DataFacts(BaseModel):
    """What is known of a data set; None where it is not.

    Args:
        channels: of the images, 1 or 3.
        size: width and height of the images in pixels.
        labels: whether they have classes.
        pairs: whether each has a condition image.
        domains: whether they are two domains without pairs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: int | None = None
    size: tuple[int, int] | None = None
    labels: bool | None = None
    pairs: bool | None = None
    domains: bool | None = None

    def converted(self, size: int | None, channels: int | None) -> Self:
        """The facts of the same data, resized and brought to so many channels; None leaves them as they are."""
        given = {"size": size and (size, size), "channels": channels}
        return self.model_copy(update={name: value for name, value in given.items() if value is not None})


def find_facts(name: str, root: Path, known: Mapping[str, Known]) -> DataFacts:
    """The facts of a known data set that was fetched, or of the file or folder ``root/NAME``.

    Raises:
        NoDataError: there is neither, or it holds no images.
    """
    if name in known:
        return fetched(name, root, known[name])
    for path in (root / name, root / f"{name}.npz"):
        if path.exists():
            return facts_of(path)
    here = sorted(path.stem for path in root.iterdir() if not path.name.startswith(".")) if root.is_dir() else []
    choices = ", ".join(dict.fromkeys([*known, *here]))
    raise NoDataError(f"there is no data set {name!r}; choose one of: {choices}")


def fetched(name: str, root: Path, known: Known) -> DataFacts:
    """The facts of a known data set.

    Raises:
        NoDataError: it is not there yet.
    """
    if not (root / name).is_dir():
        raise NoDataError(f"the data set {name} was not fetched yet; run `coopserve data fetch {name}`")
    return DataFacts(**known.model_dump(), domains=False)


def facts_of(path: Path) -> DataFacts:
    """The facts of the data at a path.

    Raises:
        NoDataError: it holds no images.
    """
    try:
        return _archive(path) if path.is_file() else _folder(path)
    except (OSError, EOFError, KeyError, ValueError, SyntaxError, zipfile.BadZipFile, Image.DecompressionBombError):
        return DataFacts()  # whoever reads all of it will say what is wrong


def _archive(path: Path) -> DataFacts:
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        found = next((stem for stem in ("images_train", "x_train", "images", "x") if stem in names), None)
        if found is None:
            return DataFacts()
        with archive.open(names[found]) as file:
            shape = _shape(file)
    labels = any(name.partition("_")[0] in ("labels", "y") for name in names)
    pairs = any(name.partition("_")[0] == "conditions" for name in names)
    channels, size = _layout(shape)
    return DataFacts(channels=channels, size=size, labels=labels, pairs=pairs, domains=False)


def _shape(file: object) -> tuple[int, ...]:
    """The shape of an array from the head of its file."""
    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return tuple(read(file)[0])  # type: ignore[arg-type]


def _layout(shape: tuple[int, ...]) -> tuple[int | None, tuple[int, int] | None]:
    """Channels, and width and height, of an array of images in any of the layouts that archives may have."""
    if len(shape) == 3:
        return 1, (shape[2], shape[1])
    if len(shape) != 4:
        return None, None
    if shape[1] in (1, 3):
        return shape[1], (shape[3], shape[2])
    return (shape[3], (shape[2], shape[1])) if shape[3] in (1, 3) else (None, None)


def _folder(path: Path) -> DataFacts:
    if any(path.glob(f"{_IDX}*")):
        return DataFacts(channels=1, labels=True, pairs=False, domains=False)
    found = _subfolders(path)
    if found & _DOMAINS:
        _, size, _ = _pictures(path / "trainA")
        return DataFacts(size=size, labels=False, pairs=False, domains=True)
    if found == {"A", "B"}:
        return _pairs(path / "B")
    if "train" in found and ("test" in found or found <= _SPLITS):
        path, found = path / "train", _subfolders(path / "train")
    if found == {"A", "B"}:
        return _pairs(path / "B")
    if found:
        channels, size, _ = _pictures(*(path / name for name in sorted(found)))
        return DataFacts(channels=channels, size=size, labels=True, pairs=False, domains=False)
    channels, size, joined = _pictures(path)
    if joined is None:
        return DataFacts(labels=False, domains=False)
    halved = (size[0] // 2, size[1]) if joined and size else size
    return DataFacts(channels=channels, size=halved, labels=False, pairs=joined, domains=False)


def _pairs(images: Path) -> DataFacts:
    train = images / "train"
    channels, size, _ = _pictures(train if train.is_dir() else images)
    return DataFacts(channels=channels, size=size, labels=False, pairs=True, domains=False)


def _pictures(*folders: Path) -> tuple[int | None, tuple[int, int] | None, bool | None]:
    """Channels and size of the pictures in some folders, and whether they are twice as wide as high.

    One picture in colour makes all of them so. All must be of one size, so the first tells.

    Raises:
        NoDataError: there are none.
    """
    looked = [_head(path) for path in islice(_files(*folders), _LOOKED)]
    if not looked:
        raise NoDataError(f"{folders[0].name if len(folders) == 1 else folders[0].parent.name} holds no images")
    wide = {width == 2 * height for _, (width, height) in looked}
    coloured = any(mode in _COLOURED for mode, _ in looked)
    return 3 if coloured else None, looked[0][1], wide.pop() if len(wide) == 1 else None


def _head(path: Path) -> tuple[str, tuple[int, int]]:
    with Image.open(path) as image:
        return image.mode, image.size


def _files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in _ENDINGS and path.is_file() and not path.name.startswith("."):
                yield path


def _subfolders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
