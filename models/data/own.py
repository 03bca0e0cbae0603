"""A user's own data: which files a path holds, and how they are read. What folders mean is told by :mod:`layouts`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from layouts.idx import LayoutError
from layouts.layout import SIDES, Layout, layout_of
from layouts.listing import sentences
from models.data.folders import read_classes, read_plain
from models.data.idx import read_idx_labels, read_idx_pair
from models.data.images import DataError
from models.data.npz import read_npz, unused_classes
from models.data.pairs import are_joined, read_joined, read_pairs
from models.data.splits import Parts


def find_parts(path: Path, *, size: int | None, channels: int | None) -> Parts:
    """How to read each part of the data at ``path``: an ``.npz`` archive, or a folder by the rules of its layout.

    Plain pictures of which more than half are exactly twice as wide as high are aligned pairs side by side: A on the
    left, B on the right.

    Args:
        size: for image files, see :func:`models.data.files.read_files`.
        channels: likewise, for all but pairs, which keep their own.

    Raises:
        DataError: it is none of these, or holds two domains without pairs (see :func:`find_domains`).
    """
    if path.is_file():
        if path.suffix.lower() != ".npz":
            raise DataError(f"{path} is neither an .npz archive nor a folder")
        archive = read_npz(path)
        return {part: partial(archive.__getitem__, part) for part in archive}
    layout = _layout(path)
    if layout.kind == "domains":
        raise DataError(
            f"{path} holds two domains without pairs (trainA, trainB), for systems that translate without them; "
            "to learn from pairs, put these under equal names into the folders A and B"
        )
    return _READERS[layout.kind](layout, path, size, channels)


def has_domains(path: Path) -> bool:
    """Whether a folder follows the convention for two domains without pairs: ``trainA``, ``testB`` or such is there."""
    return path.is_dir() and _layout(path).kind == "domains"


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
    parts = _layout(path).parts
    for part, sides in parts.items():
        for side in SIDES:
            if side not in sides:
                there = f"{part}{'B' if side == 'A' else 'A'}"
                lacking = path / f"{part}{side}"
                raise DataError(f"{lacking} is missing; the pictures of the other domain go there, beside {there}")
    source, target = (
        {
            part: partial(read_plain, sides[side], f"{path.name}/{part}{side}", size=size, channels=channels)
            for part, sides in parts.items()
        }
        for side in SIDES
    )
    return source, target


def left_out(path: Path) -> list[str]:
    """What of the data at a path is not read, in sentences.

    Raises:
        DataError: a folder can't be read.
    """
    if path.is_dir():
        return sentences(path, _layout(path).left_out)
    unused = unused_classes(path)
    return [f"left out: classes without an image to learn from: {', '.join(unused)}"] if unused else []


def _layout(path: Path) -> Layout:
    try:
        return layout_of(path)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error}") from error
    except LayoutError as error:
        raise DataError(str(error)) from error


def _idx(layout: Layout, path: Path, size: int | None, channels: int | None) -> Parts:
    assert layout.idx is not None
    known = read_idx_labels(layout.idx["train"], path.name)
    return {part: partial(read_idx_pair, files, f"{path.name}/{part}", known) for part, files in layout.idx.items()}


def _pairs(layout: Layout, path: Path, size: int | None, channels: int | None) -> Parts:
    return {part: partial(read_pairs, sides, _called(path, part), size=size) for part, sides in layout.parts.items()}


def _classes(layout: Layout, path: Path, size: int | None, channels: int | None) -> Parts:
    names = tuple(layout.decisive)
    return {
        part: partial(read_classes, groups, _called(path, part), classes=names, size=size, channels=channels)
        for part, groups in layout.parts.items()
    }


def _pictures(layout: Layout, path: Path, size: int | None, channels: int | None) -> Parts:
    files = layout.decisive.get("", ())
    if not files:
        raise DataError(_nothing(layout, path))
    parts = {part: groups.get("", ()) for part, groups in layout.parts.items()}
    if are_joined(files):
        return {part: partial(read_joined, paths, _called(path, part), size=size) for part, paths in parts.items()}
    return {
        part: partial(read_plain, paths, _called(path, part), size=size, channels=channels)
        for part, paths in parts.items()
    }


_READERS = {"idx": _idx, "pairs": _pairs, "classes": _classes, "pictures": _pictures}


def _called(path: Path, part: str) -> str:
    return f"{path.name}/{part}" if part else path.name


def _nothing(layout: Layout, path: Path) -> str:
    """Why there is nothing to read, with what was found in its place."""
    found = "".join(f"; {sentence}" for sentence in sentences(path, layout.left_out))
    return f"{path} holds no images; put them into one folder a class, or see docs/training.md for other layouts{found}"
