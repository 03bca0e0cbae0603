"""Jobs whose model this worker can't load: they go to a worker that can, and fail if there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import final

from redis import RedisError

from service.contract.errors import StaleAttemptError
from service.contract.jobs import JobRecord
from service.contract.records import Failure
from service.store.presence import Presence
from service.store.store import RecordStore
from service.store.types import Queued
from workers.upkeep.patience import patiently

log = logging.getLogger(__name__)

KIND = "inference"
"""What workers that run jobs call themselves among the living."""


@final
class Lacking:
    """What the store knows of the models that a worker lacks. Safe to use from many threads.

    A worker that could not load a model is given no jobs of it for a while (:data:`~service.store.store.LACK_SECONDS`).

    Args:
        store: the records of jobs.
        presence: which workers live.
        send: puts a message for a job on the queue.
        worker: this worker's id.
    """

    def __init__(
        self, store: RecordStore[JobRecord], presence: Presence, send: Callable[[Queued], None], worker: str
    ) -> None:
        self._store, self._presence, self._send, self._worker = store, presence, send, worker

    def give_up(self, record: JobRecord, reason: str) -> None:
        """Queue a claimed job again for a worker that can load its model; fail it if every living one has tried."""
        log.warning("%s can't be loaded here: %s", record.model, reason)
        error = Failure(kind="unusable-model", detail=f"no worker can load {record.model}: {reason}")
        try:
            status = patiently(lambda: self._store.lack(record.id, record.attempt, self._worker, self._living(), error))
            if not status.terminal:
                self._send(Queued(record.id, record.params["priority"]))
        except (StaleAttemptError, RedisError) as error:
            log.warning("%s was not handed on, its lease will run out: %s", record.id, error)

    def sweep(self) -> None:
        """Fail queued jobs of models that no living worker can load: the last one that could has gone."""
        if failed := self._store.fail_lacking(self._worker, self._living()):
            log.warning("%d jobs failed: no worker can load their models", failed)

    def _living(self) -> set[str]:
        """The workers that may take jobs, this one among them."""
        workers = self._presence.workers().items()
        others = {id for id, said in workers if said.get("kind") == KIND and said.get("state") != "draining"}
        return others | {self._worker}
