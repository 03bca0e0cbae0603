"""The inference worker: its threads claim jobs, run them, and commit the images."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import final

from redis import RedisError

from pictures.budget import ByteBudget
from service.contract.errors import StaleAttemptError
from service.contract.jobs import JobRecord
from service.pictures.blobs import Blobs
from service.store.store import RecordStore
from service.store.types import Queued
from workers.chains.keeper import Keeper
from workers.engine.engine import Engine
from workers.engine.tickets import StoppedError
from workers.jobs.claim import Claims
from workers.jobs.commit import commit, hand_back
from workers.jobs.lacking import Lacking
from workers.jobs.run import Runner
from workers.jobs.work import JobWork
from workers.residency.residency import Residency, UnusableModelError
from workers.upkeep.heart import Heart

log = logging.getLogger(__name__)

FINISH_SHARE = 0.25
"""For this part of the time that a worker has to stop, jobs may still finish."""


@final
class InferenceWorker:
    """Runs jobs; every method may be called from many threads.

    Args:
        store: the records of jobs.
        blobs: where images go.
        residency: the models.
        engine: what advances their rows; already started.
        lacking: what becomes of jobs whose model it can't load.
        heart: keeps the leases alive; already started.
        send: puts a message for a job on the queue.
        places: how many threads call :meth:`run` at most.
        worker: this worker's id.
        lease_seconds: how long a claim holds without a heartbeat.
        budget: memory for results that are brought back to size.
    """

    def __init__(
        self,
        store: RecordStore[JobRecord],
        blobs: Blobs,
        residency: Residency,
        engine: Engine,
        lacking: Lacking,
        heart: Heart,
        send: Callable[[Queued], None],
        places: int,
        worker: str,
        lease_seconds: float,
        budget: ByteBudget,
    ) -> None:
        self._store, self._blobs, self._engine, self._heart, self._send = store, blobs, engine, heart, send
        self._lacking = lacking
        self._runner = Runner(store, blobs, residency, engine, budget)
        self._draining = threading.Event()
        self._claims = Claims(store, worker, lease_seconds, places, closed=lambda: self.draining)
        self.waiting = self._claims.waiting

    @property
    def draining(self) -> bool:
        """True once it takes no more jobs: it was told to stop, or its engine has ended."""
        return self._draining.is_set() or not self._engine.is_alive()

    def run(self) -> None:
        """Run jobs as long as there are any that it may have; their records tell how they ended."""
        with self._claims.inside():
            record = self._claims.next()
            while record is not None:
                record = self._run(record)

    def drain(self, seconds: float) -> None:
        """Take no more jobs; let those that are nearly done finish, and hand the others back. Returns at once.

        Args:
            seconds: how much time there is.
        """
        self._draining.set()
        threading.Thread(target=self._drain, args=[seconds * FINISH_SHARE], name="drain", daemon=True).start()

    def _drain(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._claims.taken and time.monotonic() < end:
            time.sleep(0.02)
        self._engine.stop()

    def _run(self, record: JobRecord) -> JobRecord | None:
        """Run a job; gives the next one, which is claimed in the round trip that commits this one."""
        keeper = Keeper(self._store, self._blobs, record)
        work = JobWork(keeper)
        with self._heart.hold(record, work):
            try:
                status, fields = self._runner.outcome(record, work)
            except StoppedError as stopped:
                hand_back(self._store, self._send, record, keeper, stopped.chain)
                return None
            except UnusableModelError as error:
                self._lacking.give_up(record, str(error))
                return self._claims.next()
            if work.lost:
                return self._claims.next()
            try:
                following = commit(self._store, record, status, fields, self._claims.terms)
            except (StaleAttemptError, RedisError) as error:  # it is another attempt's, or will be after its lease
                log.warning("not committed: %s", error)
                return self._claims.next()
        keeper.drop()
        return following
