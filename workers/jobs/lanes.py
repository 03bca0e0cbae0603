"""How many jobs of each model a worker holds, so that no model takes all of its room.

A lane (a model) may hold as many jobs as there are free places: one lane alone gets half of them, a second one half of
the rest, and so on. So a model that is slow, or that is being loaded, never keeps the jobs of others out (the dynamic
thresholds of Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998, with alpha = 1).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

from service.contract.jobs import JobRecord


class Lanes:
    """The places of one worker. Safe to use from many threads.

    Args:
        places: how many jobs it holds at most.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._held: Counter[str] = Counter()
        self._claims = 0  # threads that are at the store: what they bring is not known yet
        self._changed = threading.Condition()

    def room(self) -> tuple[int, list[str]]:
        """The places that nobody has, and the lanes that must not have more of them now."""
        with self._changed:
            return self._room(self._held)

    def enter(
        self, claim: Callable[[Sequence[str]], JobRecord | None], leaving: JobRecord | None = None
    ) -> JobRecord | None:
        """Take the job that ``claim`` finds outside of the full lanes; None if there is no such job, or no place.

        Several threads claim at a time, unless two of them could take the last place of a lane.

        Args:
            claim: given the lanes that must not have more jobs.
            leaving: a job whose place may be taken, since it is about to :meth:`leave`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._certain(self._others(leaving)))
            free, full = self._room(self._others(leaving))
            if free <= 0:
                return None
            self._claims += 1
        record = None
        try:
            record = claim(full)
        finally:
            with self._changed:
                self._claims -= 1
                if record is not None:
                    self._held[record.model] += 1
                self._changed.notify_all()
        return record

    def leave(self, record: JobRecord) -> None:
        """Give the place of a job back."""
        with self._changed:
            self._held[record.model] -= 1
            self._held += Counter()  # forgets lanes with nothing in them
            self._changed.notify_all()

    def _others(self, leaving: JobRecord | None) -> Counter[str]:
        """The jobs that are held, but for this one."""
        return self._held - Counter([leaving.model] if leaving else [])

    def _room(self, held: Counter[str]) -> tuple[int, list[str]]:
        free = self._places - held.total()
        return free, [lane for lane, jobs in held.items() if jobs >= free]

    def _certain(self, held: Counter[str]) -> bool:
        """Whether one job more would be right, whatever lanes the jobs are of that others claim now."""
        most = max(held.values(), default=0) + self._claims
        return not self._claims or most < self._places - held.total() - self._claims
