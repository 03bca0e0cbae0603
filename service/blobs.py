"""Images of jobs and trainings, by key, on any file system that fsspec knows: a local directory or S3."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

# Parts begin with a letter or digit, so neither "..", nor an absolute path, nor a hidden file can be named.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,127}){0,7}")


class Blobs:
    """Bytes by key, e.g. ``jobs/{id}/0.png`` or ``trainings/{id}/samples/100.png``. Safe to use from many threads.

    Args:
        url: a directory, or an fsspec URL such as ``s3://bucket/prefix``.
    """

    def __init__(self, url: str | Path) -> None:
        self._files, self._root = fsspec.core.url_to_fs(str(url))
        self._local = isinstance(self._files, LocalFileSystem)

    def put(self, key: str, data: bytes) -> None:
        """Store bytes. Readers see the old bytes or the new ones, never a part."""
        path = self._path(key)
        if not self._local:  # object stores show an object once it is whole
            self._files.pipe_file(path, data)
            return
        folder, _, name = path.rpartition("/")
        draft = f"{folder}/.{name}.{uuid.uuid4().hex}"
        self._files.makedirs(folder, exist_ok=True)
        try:
            self._files.pipe_file(draft, data)
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise

    def get(self, key: str) -> bytes:
        """The bytes of a key.

        Raises:
            FileNotFoundError: there are none.
        """
        data: bytes = self._files.cat_file(self._path(key))
        return data

    def exists(self, key: str) -> bool:
        """Whether there are bytes under this key."""
        return bool(self._files.isfile(self._path(key)))

    def delete_prefix(self, prefix: str) -> None:
        """Remove everything below a key, e.g. ``jobs/{id}``; nothing happens if there is nothing."""
        path = self._path(prefix)
        if self._files.exists(path):
            self._files.rm(path, recursive=True)

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a key of a blob: {key[:200]!r}")
        return f"{self._root}/{key}"
