"""How many jobs of each model a worker holds, so that no model takes all of its room.

A lane (a model) may hold as many jobs as there are free places: one lane alone gets half of them, a second one half of
the rest, and so on. So a model that is slow, or that is being loaded, never keeps the jobs of others out (the dynamic
thresholds of Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998, with alpha = 1).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from service.jobs import JobRecord


class Lanes:
    """The places of one worker. Safe to use from many threads.

    Args:
        places: how many jobs it holds at most.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._held: Counter[str] = Counter()
        self._lock = threading.RLock()

    def room(self) -> tuple[int, list[str]]:
        """The places that nobody has, and the lanes that must not have more of them now."""
        with self._lock:
            free = self._places - self._held.total()
            return free, [lane for lane, held in self._held.items() if held >= free]

    def enter(self, claim: Callable[[Sequence[str]], JobRecord | None]) -> JobRecord | None:
        """Take the job that ``claim`` finds outside of the full lanes; None if there is no such job, or no place."""
        with self._lock:  # else two threads could both take the last place of a lane
            free, full = self.room()
            record = claim(full) if free > 0 else None
            if record is not None:
                self._held[record.model] += 1
            return record

    def leave(self, record: JobRecord) -> None:
        """Give the place of a job back."""
        with self._lock:
            self._held[record.model] -= 1
            self._held += Counter()  # forgets lanes with nothing in them
