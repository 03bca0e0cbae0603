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

    def enter(
        self, claim: Callable[[Sequence[str]], JobRecord | None], leaving: JobRecord | None = None
    ) -> JobRecord | None:
        """Take the job that ``claim`` finds outside of the full lanes; None if there is no such job, or no place.

        Args:
            claim: given the lanes that must not have more jobs.
            leaving: a job whose place may be taken, since it is about to :meth:`leave`.
        """
        with self._lock:  # else two threads could both take the last place of a lane
            gone = Counter([leaving.model] if leaving else [])
            self._held -= gone
            try:
                free, full = self.room()
                record = claim(full) if free > 0 or leaving else None
            finally:
                self._held += gone
            if record is not None:
                self._held[record.model] += 1
            return record

    def admit(self, record: JobRecord) -> bool:
        """Take a job that is claimed already; False if its lane is full, or there is no place."""
        with self._lock:
            free, full = self.room()
            if admitted := free > 0 and record.model not in full:
                self._held[record.model] += 1
            return admitted

    def leave(self, record: JobRecord) -> None:
        """Give the place of a job back."""
        with self._lock:
            self._held[record.model] -= 1
            self._held += Counter()  # forgets lanes with nothing in them
