"""Files that are there whole or not at all, even if the process or the machine dies while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PART = ".part"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of ``path`` in one step at the end of the block.

    A reader finds the old file or the new one. If the block fails, the old one stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_PART}")  # of this process: another may write it, too
    try:
        yield temporary
        settle(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def settle(path: Path) -> None:
    """Wait until a file or a folder's listing is on the disk. Else a power cut can leave an empty file in its place."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Delete what killed writers have left in a folder."""
    for part in folder.glob(f".*{_PART}"):
        part.unlink(missing_ok=True)
