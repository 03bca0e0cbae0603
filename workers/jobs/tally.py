"""How many bytes a job has stored."""

from __future__ import annotations

import threading
from typing import final

from service.pictures.blobs import Blobs


@final
class Tally:
    """Puts blobs, and counts the bytes that are there in the end. Safe to use from many threads.

    Args:
        blobs: where they go.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._lock, self._sizes = threading.Lock(), dict[str, int]()

    def put(self, key: str, data: bytes) -> None:
        """As :meth:`.Blobs.put`."""
        self._blobs.put(key, data)
        with self._lock:
            self._sizes[key] = len(data)

    @property
    def bytes(self) -> int:
        """Bytes of all that was put, the last time for each key."""
        with self._lock:
            return sum(self._sizes.values())
