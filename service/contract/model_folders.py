"""What the catalog asks of the file system: which folders there are, and when they changed."""

from __future__ import annotations

import os
from pathlib import Path


def changed_at(path: str) -> int:
    """When a directory or file last changed, in nanoseconds; 0 if there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def subfolders(path: Path) -> list[str]:
    """The names of the folders in a folder; none if it is not there."""
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())
    except OSError:  # not made yet, or just removed
        return []


def changed(folder: Path) -> int:
    """When the folder's listing or its card last changed, in nanoseconds; 0 if there is no card."""
    try:
        return os.stat(folder).st_mtime_ns ^ os.stat(folder / "card.json").st_mtime_ns
    except OSError:
        return 0
