"""Images of jobs and trainings, by key, on any file system that fsspec knows: a local directory or S3."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

# Parts begin with a letter or digit, so neither "..", nor an absolute path, nor a hidden file can be named.
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,127}){0,7}")


_LARGE = 2**20


class Blobs:
    """Bytes by key, e.g. ``jobs/{id}/0.png`` or ``trainings/{id}/samples/100.png``. Safe to use from many threads.

    Args:
        url: a directory, or an fsspec URL such as ``s3://bucket/prefix``. Address and keys of an object store are
            read by its client, for S3 from ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``.

    Every method raises OSError if the store does not answer, refuses or is full.
    """

    def __init__(self, url: str | Path) -> None:
        # Listings are not remembered: other processes add and remove files.
        self._files, self._root = fsspec.core.url_to_fs(str(url), use_listings_cache=False)
        self._local = isinstance(self._files, LocalFileSystem)

    def put(self, key: str, data: bytes) -> None:
        """Store bytes. Readers see the old bytes or the new ones, never a part."""
        path = self._path(key)
        if not self._local:  # object stores show an object once it is whole
            with _as_os_error():
                self._files.pipe_file(path, data)
            return
        folder, _, name = path.rpartition("/")
        draft = f"{folder}/.{name}.{uuid.uuid4().hex}"
        os.makedirs(folder, exist_ok=True)
        try:
            with open(draft, "xb") as file:
                file.write(data)
            os.replace(draft, path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise

    def get(self, key: str) -> bytes:
        """The bytes of a key.

        Raises:
            FileNotFoundError: there are none.
        """
        path = self._path(key)
        with _as_os_error():
            data: bytes = self._files.cat_file(path)
        return data

    def head(self, key: str, size: int) -> bytes:
        """The first bytes of a key.

        Raises:
            FileNotFoundError: there are none.
        """
        path = self._path(key)
        with _as_os_error():
            data: bytes = self._files.cat_file(path, start=0, end=size)
        return data

    def open_large(self, key: str) -> BinaryIO | None:
        """An open file for bytes that are too many to be held in memory by many readers; None: use :meth:`get`.

        Only a directory gives files; object stores are read as a whole.
        """
        if not self._local:
            return None
        try:
            file = open(self._path(key), "rb")  # noqa: SIM115 (the caller closes it)
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_size >= _LARGE:
            return file
        file.close()
        return None

    def exists(self, key: str) -> bool:
        """Whether there are bytes under this key."""
        path = self._path(key)
        try:
            with _as_os_error():
                return bool(self._files.info(path)["type"] == "file")  # isfile() says no where nothing answers
        except FileNotFoundError:
            return False

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders below a key, e.g. the ids below ``jobs``."""
        path = self._path(prefix)
        try:
            with _as_os_error():
                entries = self._files.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return [entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory"]

    def size(self, prefix: str) -> int:
        """Bytes of all that is below a key."""
        path = self._path(prefix)
        try:
            with _as_os_error():
                return int(self._files.du(path))
        except FileNotFoundError:
            return 0

    def delete_prefix(self, prefix: str) -> None:
        """Remove everything below a key, e.g. ``jobs/{id}``; nothing happens if there is nothing."""
        path = self._path(prefix)
        with suppress(FileNotFoundError), _as_os_error():
            self._files.rm(path, recursive=True)

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a key of a blob: {key[:200]!r}")
        return f"{self._root}/{key}"


@contextmanager
def _as_os_error() -> Iterator[None]:
    """Clients of object stores have errors of their own for a server that is away: here they are OSErrors as well."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"the store of images failed: {error}") from error
