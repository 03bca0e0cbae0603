"""Whether the disk of images has room."""

from __future__ import annotations

import shutil
from pathlib import Path

from service.contract.errors import StorageError


class Room:
    """Looks at the disk before something is accepted, so that it never runs full.

    Args:
        folder: where images are; it need not exist yet. None: in an object store, which bounds itself.
        min_free: bytes that must stay free.
    """

    def __init__(self, folder: Path | None, min_free: int) -> None:
        self._folder, self._min_free = folder, min_free

    def check(self, wanted: int) -> None:
        """Check that so many bytes fit.

        Raises:
            StorageError: they don't.
        """
        if self._folder is None or self._min_free == 0:
            return
        there = next(folder for folder in (self._folder, *self._folder.absolute().parents) if folder.exists())
        free = shutil.disk_usage(there).free
        if free - wanted < self._min_free:
            raise StorageError("storage-full", f"the disk of images has {free} bytes left; {self._min_free} stay free")
