"""How many event streams a caller may hold open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from service.contract.errors import TooManyError


@final
class OpenStreams:
    """Counts the event streams of this process, by caller.

    Args:
        most: of each caller.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    def check(self, name: str) -> None:
        """Whether a caller may open one more.

        Raises:
            TooManyError: no.
        """
        if self._open[name] >= self._most:
            raise TooManyError("too-many-streams", self._most)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Count a stream while it is open."""
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
