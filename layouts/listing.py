"""What lies in one folder: picture files, folders, and what is left out with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp"})
"""Endings of the files that are read, in small letters; files may write them in any case."""

_OTHER_FORMATS = frozenset(
    {".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".psd", ".ico", ".tga", ".pgm"}
    | {".ppm", ".dng", ".cr2", ".nef", ".arw"}
)
_SYSTEM = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__"}
    | {"thumbs.db", "desktop.ini"}
)
_SHOWN = 3


class Reason(StrEnum):
    """Why something is left out, in words that a list of names can follow."""

    FORMAT = "pictures in other formats; convert them to PNG, JPEG or WebP"
    NO_PICTURE = "files that are no pictures by their ending"
    EMPTY = "folders without pictures"
    DEEPER = "folders below those that are read; move their pictures up"
    BESIDE = "what lies beside the folders that are read"
    HIDDEN = "hidden files and folders"
    SYSTEM = "files and folders that belong to other programs"
    BROKEN = "links that lead nowhere"


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not read."""

    path: Path
    reason: Reason


@dataclass(frozen=True)
class Listing:
    """What lies in a folder, each part in the order of names.

    Args:
        pictures: files with a known ending.
        folders: its subfolders, without hidden ones and those of other programs.
        left_out: all the rest.
    """

    pictures: tuple[Path, ...]
    folders: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]


def listing(folder: Path) -> Listing:
    """What lies in a folder itself.

    Raises:
        OSError: it can't be read.
    """
    entries = sorted(folder.iterdir())
    reasons = {path: reason_of(path) for path in entries}
    kept = [path for path in entries if reasons[path] is None]
    return Listing(
        tuple(path for path in kept if not path.is_dir()),
        tuple(path for path in kept if path.is_dir()),
        tuple(LeftOut(path, reason) for path, reason in reasons.items() if reason),
    )


def reason_of(path: Path) -> Reason | None:
    """Why a file or folder is left out wherever it lies; None if it is a picture or a folder to look into."""
    if reason := reason_of_entry(path.name):
        return reason
    if path.is_dir():
        return None
    if path.is_symlink() and not path.exists():
        return Reason.BROKEN
    return reason_of_ending(path.suffix)


def reason_of_entry(name: str) -> Reason | None:
    """Why a file or folder of a name is left out, whatever is in it."""
    if name.lower() in _SYSTEM:
        return Reason.SYSTEM
    return Reason.HIDDEN if name.startswith(".") else None


def reason_of_ending(ending: str) -> Reason | None:
    """Why files with an ending such as ``.bmp`` are left out; None if they are read."""
    if ending.lower() in PICTURES:
        return None
    return Reason.FORMAT if ending.lower() in _OTHER_FORMATS else Reason.NO_PICTURE


def carries_pictures(folder: Path) -> bool:
    """Whether there is a picture in a folder, however deep. Links within it are not followed: they may lead back."""
    found = listing(folder)
    return bool(found.pictures) or any(carries_pictures(below) for below in found.folders if not below.is_symlink())


def sentences(root: Path, left_out: Iterable[LeftOut]) -> list[str]:
    """What is left out of a folder, a sentence a reason: why, how many, and some of the names."""
    order = list(Reason)
    found = sorted(left_out, key=lambda one: (order.index(one.reason), one.path))
    said = []
    for reason, group in groupby(found, key=lambda one: one.reason):
        names = [str(one.path.relative_to(root)) for one in group]
        more = ", ..." if len(names) > _SHOWN else ""
        said.append(f"left out: {len(names)} of {reason.value}: {', '.join(names[:_SHOWN])}{more}")
    return said
