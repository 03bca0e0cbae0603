"""Which jobs a worker takes: the first of the queue that it has room for. Their order is the store's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

from redis import RedisError

from service.contract.jobs import JobRecord
from service.store.store import RecordStore
from service.store.types import Claim, Queued

log = logging.getLogger(__name__)


@final
class Claims:
    """The places of one worker. Safe to use from many threads.

    Of one model a worker holds at most half of its places: a model that is slow or is being loaded never keeps the jobs
    of another one out, and half of the usual 128 places fill both batches of 32 rows that a CPU advances. It takes two
    slow models to fill a worker; then more places or another worker help.

    Args:
        store: the records of jobs.
        worker: the worker's id.
        lease_seconds: how long a claim holds without a heartbeat.
        places: how many threads may be :meth:`inside` at a time, each with one job.
        closed: whether the worker takes no more jobs.
    """

    def __init__(
        self,
        store: RecordStore[JobRecord],
        worker: str,
        lease_seconds: float,
        places: int,
        closed: Callable[[], bool],
    ) -> None:
        self._store, self._places, self._closed = store, places, closed
        self._claim = Claim(worker, lease_seconds, share=max(1, places // 2))
        self._lock, self._taken = threading.Lock(), 0

    @property
    def taken(self) -> int:
        """How many threads are inside."""
        return self._taken

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Take a place for a thread that claims and runs jobs."""
        with self._lock:
            self._taken += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken -= 1

    def terms(self) -> Claim | None:
        """On what terms the next job is claimed; None if no more are taken."""
        return None if self._closed() else self._claim

    def next(self) -> JobRecord | None:
        """Claim the next job; None if there is none that this worker may have."""
        if self._closed():
            return None
        try:
            return self._store.claim_next(self._claim)
        except RedisError as error:  # the job is still queued, and a sweep sends it again
            log.warning("no job taken: %s", error)
            return None

    def waiting(self) -> list[Queued]:
        """Queued jobs for which there is room."""
        free = 0 if self._closed() else self._places - self._taken
        return self._store.waiting(free, self._claim.worker, self._claim.share) if free > 0 else []
