"""Memory that is shared by all that decode pictures at the same time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final


@final
class ByteBudget:
    """So many bytes, taken and given back. Whoever asks first is served first. Safe to use from many threads.

    Args:
        total: bytes in all.
    """

    def __init__(self, total: int) -> None:
        self._total, self._taken = total, 0
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        """Bytes that are in use."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for bytes."""
        return len(self._queue)

    @contextmanager
    def take(self, wanted: int) -> Iterator[None]:
        """Hold so many bytes; waits until they are free. What is more than the whole budget gets all of it, alone."""
        share, place = min(wanted, self._total), object()
        with self._changed:
            self._queue.append(place)
            try:
                self._changed.wait_for(lambda: self._queue[0] is place and self._taken + share <= self._total)
                self._taken += share
            finally:
                self._queue.remove(place)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._taken -= share
                self._changed.notify_all()
