"""What the folders of a data set mean: classes, aligned pairs, two domains, plain pictures, or IDX files.

The first of these that fits decides:

1. a folder with ``train-images-idx3-ubyte`` and the like holds IDX files (:mod:`layouts.idx`);
2. one of the folders ``trainA``, ``trainB``, ``testA``, ``testB`` makes it two domains without pairs;
3. the two folders ``A`` and ``B`` make aligned pairs under equal file names, in one piece or in ``A/train``,
   ``B/train`` and so on. Other folders with pictures may lie beside them if A and B share most of their names and not
   all of the folders are called by one letter, as those of an alphabet's classes are;
4. a folder with ``train`` and ``test``, or with ``train`` and nothing but ``valid`` or ``val`` beside it, is split, and
   ``train`` decides by the rules that follow what all parts are; another folder is in one piece and decides for itself;
5. the folders ``A`` and ``B`` in it make pairs, as above;
6. folders with pictures in them are classes;
7. other pictures are plain. Whether they show pairs side by side is told by their sizes, which nobody looks at here.

What is in none of these places is left out, with the reason.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from layouts.idx import IdxFiles, find_idx
from layouts.listing import LeftOut, Listing, Reason, carries_pictures, listing

Kind: TypeAlias = Literal["classes", "pairs", "domains", "pictures", "idx"]
Groups: TypeAlias = Mapping[str, tuple[Path, ...]]

SIDES = ("A", "B")
_SPLITS = {"train": "train", "test": "test", "valid": "valid", "val": "valid"}
_DOMAINS = {f"{name}{side}": (part, side) for name, part in _SPLITS.items() for side in SIDES}
_TELLING = frozenset({"trainA", "trainB", "testA", "testB"})


@dataclass(frozen=True)
class Layout:
    """What a folder holds.

    Args:
        kind: what it is.
        parts: for each part (``train``, ``valid``, ``test``, or all in one under the empty name) its pictures by group:
            by class for ``classes``, by side for ``pairs`` and ``domains``, under the empty name for ``pictures``.
            None for IDX files.
        left_out: what is not read.
        idx: the files of each part, for IDX files alone.
    """

    kind: Kind
    parts: Mapping[str, Groups]
    left_out: tuple[LeftOut, ...] = ()
    idx: Mapping[str, IdxFiles] | None = None

    @property
    def decisive(self) -> Groups:
        """The part that training learns from, which says what all parts are."""
        return self.parts["train"] if "train" in self.parts else self.parts.get("", {})


def layout_of(root: Path) -> Layout:
    """What the folders and file names in a folder mean.

    Raises:
        OSError: a folder can't be read.
        LayoutError: there are several sets of IDX files.
    """
    if idx := find_idx(root):
        return Layout("idx", {}, idx=idx)
    top = listing(root)
    if not _TELLING.isdisjoint(folder.name for folder in top.folders):
        return _domains(top)
    if sides := _sides(top):
        return _pairs(top, sides)
    return _split(top)


def plain_name(path: Path) -> str:
    """The name of a folder or file as text: systems write accents in two ways, of which JSON clients send the first."""
    return unicodedata.normalize("NFC", path.name)


def data_name(path: Path) -> str:
    """What data at a path are called: a folder by its whole name, an archive without its ending."""
    return plain_name(path) if path.is_dir() else stem(path)


def stem(path: Path) -> str:
    """The name of a file without its ending, under which two files make a pair."""
    return unicodedata.normalize("NFC", path.stem)


def _flat(folder: Path, out: list[LeftOut]) -> tuple[Path, ...]:
    """The pictures in a folder itself; what else lies there is noted."""
    found = listing(folder)
    out += found.left_out
    out += [_deeper(path) for path in found.folders]
    return found.pictures


def _deeper(folder: Path) -> LeftOut:
    return LeftOut(folder, Reason.DEEPER if carries_pictures(folder) else Reason.EMPTY)


def _without_pictures(folder: Path) -> list[LeftOut]:
    """A folder that has no picture itself, and the files in it that are none."""
    return [_deeper(folder), *listing(folder).left_out]


def _beside(paths: Iterable[Path]) -> list[LeftOut]:
    def empty(path: Path) -> bool:
        return path.is_dir() and not carries_pictures(path)

    return [LeftOut(path, Reason.EMPTY if empty(path) else Reason.BESIDE) for path in paths]


def _domains(top: Listing) -> Layout:
    out = [*top.left_out, *_beside(top.pictures)]
    parts: dict[str, dict[str, tuple[Path, ...]]] = {}
    for folder in top.folders:
        if folder.name in _DOMAINS:
            part, side = _DOMAINS[folder.name]
            parts.setdefault(part, {})[side] = _flat(folder, out)
        else:
            out += _beside((folder,))
    return Layout("domains", parts, tuple(out))


# Pairs


def _sides(found: Listing) -> dict[str, Path] | None:
    """The folders A and B, if they make pairs; see rule 3."""
    sides = {folder.name: folder for folder in found.folders if folder.name in SIDES}
    if len(sides) < len(SIDES):
        return None
    others = [folder for folder in found.folders if folder.name not in SIDES and carries_pictures(folder)]
    if others and all(len(folder.name) == 1 for folder in others):
        return None
    return sides if not others or _share_names(sides["A"], sides["B"]) else None


def _share_names(a: Path, b: Path) -> bool:
    mine, theirs = ({stem(path) for path in _pictures_of_side(folder)} for folder in (a, b))
    return bool(mine) and 2 * len(mine & theirs) > min(len(mine), len(theirs))


def _pictures_of_side(folder: Path) -> Iterator[Path]:
    found = listing(folder)
    yield from found.pictures
    for below in found.folders:
        if below.name in _SPLITS:
            yield from listing(below).pictures


def _pairs(found: Listing, sides: Mapping[str, Path]) -> Layout:
    """Pairs whose sides lie at the top, each in one piece or split below."""
    out = [*found.left_out, *_beside(found.pictures)]
    out += _beside(folder for folder in found.folders if folder.name not in SIDES)
    parts: dict[str, dict[str, tuple[Path, ...]]] = {}
    for side, folder in sides.items():
        below = listing(folder)
        if split := _split_folders(below):
            out += [*below.left_out, *_beside(below.pictures)]
            out += _beside(path for path in below.folders if path not in split.values())
        for part, place in (split or {"": folder}).items():
            parts.setdefault(part, {})[side] = _flat(place, out)
    return Layout("pairs", parts, tuple(out))


# Parts in folders of their own


def _split_folders(found: Listing) -> dict[str, Path] | None:
    """The folders of the parts of a split folder; see rule 4."""
    folders = {folder.name: folder for folder in found.folders}
    others = [folder for name, folder in folders.items() if name not in _SPLITS and carries_pictures(folder)]
    if "train" in folders and ("test" in folders or not others):
        return {part: folders[name] for name, part in _SPLITS.items() if name in folders}
    return None


def _split(top: Listing) -> Layout:
    split = _split_folders(top)
    if split is None:
        return _whole({"": top}, [])
    out = [*top.left_out, *_beside(top.pictures)]
    out += _beside(folder for folder in top.folders if folder not in split.values())
    return _whole({part: listing(folder) for part, folder in split.items()}, out)


def _whole(places: Mapping[str, Listing], out: list[LeftOut]) -> Layout:
    """What the places of the parts hold, as the one that is learned from decides."""
    decisive = places["train"] if "train" in places else places[""]
    if _sides(decisive):
        found = {part: _pairs(place, _both(place)) for part, place in places.items()}
        out += [one for layout in found.values() for one in layout.left_out]
        return Layout("pairs", {part: layout.parts.get("", {}) for part, layout in found.items()}, tuple(out))
    if any(listing(folder).pictures for folder in decisive.folders):
        classes = {part: _classes(place, out) for part, place in places.items()}
        return Layout("classes", classes, tuple(out))
    parts = {}
    for part, place in places.items():
        out += place.left_out
        for folder in place.folders:
            out += _without_pictures(folder)
        parts[part] = {"": place.pictures}
    return Layout("pictures", parts, tuple(out))


def _both(place: Listing) -> dict[str, Path]:
    return {folder.name: folder for folder in place.folders if folder.name in SIDES}


def _classes(place: Listing, out: list[LeftOut]) -> dict[str, tuple[Path, ...]]:
    """The pictures of each class folder; one without pictures is no class."""
    out += [*place.left_out, *_beside(place.pictures)]
    found: dict[str, tuple[Path, ...]] = {}
    for folder in place.folders:
        if listing(folder).pictures:
            found[plain_name(folder)] = found.get(plain_name(folder), ()) + _flat(folder, out)
        else:
            out += _without_pictures(folder)
    return dict(sorted(found.items()))
