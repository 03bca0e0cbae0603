"""What a look from outside tells of a data set: names of folders and files, and the heads of a few files.

What the folders mean is told by :mod:`layouts`, which the trainers ask as well; they read all of what is found here. A
fact may be unknown, and refuses nothing then: a trainer that can't use the data says so in its record.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from layouts.idx import LayoutError
from layouts.layout import Kind, Layout, layout_of
from layouts.listing import sentences
from pictures.files import OWN_FILES, BadPictureError, TooLargeError, examine
from service.contract.data_places import find_data, known_names

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
        mixed: whether the images differ in size, and must be resized to be learned from.
        labels: whether they have classes.
        pairs: whether each has a condition image.
        domains: whether they are two domains without pairs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: int | None = None
    size: tuple[int, int] | None = None
    mixed: bool = False
    labels: bool | None = None
    pairs: bool | None = None
    domains: bool | None = None

    def converted(self, image_size: int | None, channels: int | None) -> Self:
        """The facts of the same data, resized and brought to so many channels; None leaves them as they are."""
        resized = {"size": (image_size, image_size), "mixed": False} if image_size is not None else {}
        coloured = {"channels": channels} if channels is not None else {}
        return self.model_copy(update={**resized, **coloured})


def find_facts(name: str, root: Path, known: Mapping[str, Known], owner: str | None = None) -> DataFacts:
    """The facts of a known data set that was fetched, of an upload of the owner, or of the server's own ``root/NAME``.

    Raises:
        NoDataError: there is none, or it holds no images.
    """
    if name in known:
        return fetched(name, root, known[name])
    if path := find_data(root, name, owner):
        return facts_of(path)
    choices = ", ".join(dict.fromkeys([*known, *known_names(root, owner)]))
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
        NoDataError: it holds no images, or several sets.
    """
    try:
        return _archive(path) if path.is_file() else _folder(path)
    except LayoutError as error:
        raise NoDataError(str(error)) from None
    except (OSError, EOFError, KeyError, ValueError, SyntaxError, zipfile.BadZipFile, BadPictureError, TooLargeError):
        return DataFacts()  # whoever reads all of it will say what is wrong


# Archives


def _archive(path: Path) -> DataFacts:
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        found = next((stem for stem in ("images_train", "x_train", "images", "x") if stem in names), None)
        if found is None:
            return DataFacts()
        with archive.open(names[found]) as file:
            shape = array_shape(file)
    labels = any(name.partition("_")[0] in ("labels", "y") for name in names)
    pairs = any(name.partition("_")[0] == "conditions" for name in names)
    channels, size = _array_layout(shape)
    return DataFacts(channels=channels, size=size, labels=labels, pairs=pairs, domains=False)


def array_shape(file: object) -> tuple[int, ...]:
    """The shape of an array from the head of its file."""
    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return tuple(read(file)[0])  # type: ignore[arg-type]


def _array_layout(shape: tuple[int, ...]) -> tuple[int | None, tuple[int, int] | None]:
    """Channels, and width and height, of an array of images in any of the layouts that archives may have."""
    if len(shape) == 3:
        return 1, (shape[2], shape[1])
    if len(shape) != 4:
        return None, None
    if shape[1] in (1, 3):
        return shape[1], (shape[3], shape[2])
    return (shape[3], (shape[2], shape[1])) if shape[3] in (1, 3) else (None, None)


# Folders


def _folder(path: Path) -> DataFacts:
    layout = layout_of(path)
    look, facts = _LOOKS[layout.kind]
    pictures = [_head(file) for file in islice(look(layout), _LOOKED)]
    if not pictures and layout.kind != "idx":
        found = "".join(f"; {sentence}" for sentence in sentences(path, layout.left_out))
        raise NoDataError(f"{path.name} holds no images{found}")
    return facts(_seen(pictures))


class _Seen(NamedTuple):
    """What some pictures look like."""

    channels: int | None
    size: tuple[int, int] | None
    mixed: bool
    joined: bool | None

    def facts(self, **given: bool | None) -> DataFacts:
        return DataFacts(channels=self.channels, size=self.size, mixed=self.mixed, **given)


def _seen(pictures: list[tuple[bool, tuple[int, int]]]) -> _Seen:
    """One picture in colour makes all of them so; where they differ in size or shape it is told."""
    sizes = {size for _, size in pictures}
    wide = {width == 2 * height for width, height in sizes}
    coloured = not all(grey for grey, _ in pictures)
    joined = wide.pop() if len(wide) == 1 else None
    return _Seen(3 if coloured else None, min(sizes) if len(sizes) == 1 else None, len(sizes) > 1, joined)


def _head(path: Path) -> tuple[bool, tuple[int, int]]:
    """Whether it is grey, and its size upright."""
    info = examine(path.read_bytes(), OWN_FILES, counted=False)
    return info.grey, info.size


def _domains(seen: _Seen) -> DataFacts:
    return DataFacts(size=seen.size, mixed=seen.mixed, labels=False, pairs=False, domains=True)


def _pictures(seen: _Seen) -> DataFacts:
    if seen.joined is None:
        return DataFacts(labels=False, domains=False)
    halved = (seen.size[0] // 2, seen.size[1]) if seen.joined and seen.size else seen.size
    return seen._replace(size=halved).facts(labels=False, pairs=seen.joined, domains=False)


def _all(layout: Layout) -> Iterable[Path]:
    return chain.from_iterable(layout.decisive.values())


_LOOKS: Mapping[Kind, tuple[Callable[[Layout], Iterable[Path]], Callable[[_Seen], DataFacts]]] = {
    "idx": (lambda layout: (), lambda seen: DataFacts(channels=1, labels=True, pairs=False, domains=False)),
    "domains": (lambda layout: layout.decisive.get("A", ()), _domains),
    "pairs": (
        lambda layout: layout.decisive.get("B", ()),
        lambda seen: seen.facts(labels=False, pairs=True, domains=False),
    ),
    "classes": (_all, lambda seen: seen.facts(labels=True, pairs=False, domains=False)),
    "pictures": (_all, _pictures),
}
"""For each kind of layout which pictures are looked at, and what follows from them."""
