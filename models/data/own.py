"""A user's own data: which files a path holds, and how they are read."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from models.data.files import image_files, subfolders
from models.data.folders import read_folders, read_plain
from models.data.idx import find_idx, read_idx_pair
from models.data.images import DataError
from models.data.npz import read_npz
from models.data.pairs import SIDES, are_joined, read_joined, read_pairs
from models.data.splits import Parts

_SPLIT_FOLDERS = {"train": "train", "test": "test", "valid": "valid", "val": "valid"}
_DOMAIN_FOLDERS = {side: {f"{name}{side}": part for name, part in _SPLIT_FOLDERS.items()} for side in SIDES}
_DOMAINS = {"trainA", "trainB", "testA", "testB"}


def find_parts(path: Path, *, size: int | None, channels: int | None) -> Parts:
    """How to read each part of the data at ``path``.

    The first of these that fits decides:

    1. a file is an ``.npz`` archive (:mod:`models.data.npz`);
    2. a folder with ``train-images-idx3-ubyte`` and the like holds IDX files;
    3. a folder with the two folders ``A`` and ``B`` and no other holds aligned pairs under equal file names, in one
       piece or in ``A/train``, ``B/train`` and so on (so two classes can't be called A and B);
    4. a folder with ``train`` and ``test``, or with ``train`` and nothing but ``valid`` or ``val`` beside it, is split,
       and ``train`` decides what all parts are, by the rules that follow; another folder is in one piece and decides
       for itself;
    5. with the two folders ``A`` and ``B`` and no other in it, it holds aligned pairs under equal file names;
    6. with other folders in it, it holds class folders;
    7. with image files in it, more than half of which are exactly twice as wide as high, it holds aligned pairs side by
       side: A on the left, B on the right;
    8. with other image files, it holds images without labels.

    Args:
        size: for image files, see :func:`models.data.files.read_files`.
        channels: likewise, for all but pairs, which keep their own.

    Raises:
        DataError: it is none of these, or holds two domains without pairs (see :func:`find_domains`).
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
    if has_domains(path):
        raise DataError(
            f"{path} holds two domains without pairs (trainA, trainB), for systems that translate without them; "
            "to learn from pairs, put these under equal names into the folders A and B"
        )
    if _has_sides(path):
        a, b = (_parts_of(path / side) for side in SIDES)
        return {part: partial(read_pairs, a[part], b.get(part, path / "B" / part), size=size) for part in a}
    return _image_parts(_parts_of(path), size, channels)


def has_domains(path: Path) -> bool:
    """Whether a folder follows the convention for two domains without pairs: ``trainA``, ``testB`` or such is there."""
    return path.is_dir() and not _DOMAINS.isdisjoint(subfolders(path))


def find_domains(path: Path, *, size: int | None, channels: int | None) -> tuple[Parts, Parts]:
    """How to read each part of two domains: the folders ``trainA``, ``trainB``, ``testA`` and ``testB`` of ``path``.

    ``validA`` and ``validB`` (or ``valA`` and ``valB``) give a validation split. The domains may differ in their number
    of images, and their files belong to no pairs, whatever their names.

    Args:
        size: for image files, see :func:`models.data.files.read_files`.
        channels: likewise.

    Raises:
        DataError: a folder of one domain lacks its counterpart of the other.
    """
    found = set(subfolders(path))
    a, b = ({part: name for name, part in _DOMAIN_FOLDERS[side].items() if name in found} for side in SIDES)
    for mine, others, other in ((a, b, "B"), (b, a, "A")):
        for part, name in mine.items():
            if part not in others:
                lacking = path / f"{name[:-1]}{other}"
                raise DataError(f"{lacking} is missing; the pictures of the other domain go there, beside {name}")
    source, target = (
        {part: partial(read_plain, path / name, size=size, channels=channels) for part, name in side.items()}
        for side in (a, b)
    )
    return source, target


def _has_sides(folder: Path) -> bool:
    return set(subfolders(folder)) == set(SIDES)


def _parts_of(folder: Path) -> dict[str, Path]:
    """The folders of a split folder by part; a folder in one piece under the empty name."""
    found = set(subfolders(folder))
    if "train" in found and ("test" in found or found <= _SPLIT_FOLDERS.keys()):
        return {part: folder / name for name, part in _SPLIT_FOLDERS.items() if name in found}
    return {"": folder}


def _image_parts(folders: dict[str, Path], size: int | None, channels: int | None) -> Parts:
    decisive = folders["train"] if "train" in folders else folders[""]
    if _has_sides(decisive):
        return {part: partial(read_pairs, folder / "A", folder / "B", size=size) for part, folder in folders.items()}
    classes, files = subfolders(decisive), image_files(decisive)
    if classes or not files:
        return {
            part: partial(read_folders, folder, size=size, channels=channels, classes=classes if part else None)
            for part, folder in folders.items()
        }
    if are_joined(files):
        return {part: partial(read_joined, folder, size=size) for part, folder in folders.items()}
    return {part: partial(read_plain, folder, size=size, channels=channels) for part, folder in folders.items()}
