"""Sweeps up, for all workers: jobs whose worker fell silent, messages that were lost, and what has expired."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis import RedisError

from service.store.store import RecordStore
from service.store.types import Queued

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0


class Janitor(threading.Thread):
    """One thread a worker process. All of them may sweep at the same time.

    Args:
        store: where the records are.
        send: puts a message for a record on the queue.
        waiting: queued records that the worker has room for: they are sent again.
        delete: deletes all that belongs to a record.
        lease_seconds: how long a lease lasts.
        also: what else is to be done in a sweep.
    """

    def __init__(
        self,
        store: RecordStore[Any],
        send: Callable[[Queued], None],
        waiting: Callable[[], Sequence[Queued]],
        delete: Callable[[str], None],
        lease_seconds: float,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="janitor", daemon=True)
        self._store, self._send, self._waiting, self._dispose = store, send, waiting, delete  # Thread has a _delete
        self._lease_seconds, self._also = lease_seconds, also
        self._away = False
        self._patient_until = 0.0
        self._stop_event = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._stop_event.set()
        if self.is_alive():
            self.join(5.0)

    def run(self) -> None:
        while True:
            try:
                self.sweep()
            except (RedisError, OSError) as error:
                log.warning("no sweep: %s", error)
            except Exception:
                log.exception("the sweep failed")
            if self._stop_event.wait(min(SWEEP_SECONDS, self._lease_seconds / 3)):
                return

    def sweep(self) -> None:
        """Do once what there is to do.

        Raises:
            RedisError, OSError: the store or the blobs do not answer.
        """
        self._fail_late()
        if time.monotonic() >= self._patient_until:
            for queued in self._store.requeue_expired():
                log.warning("the worker of %s fell silent; it is queued again", queued.id)
                self._send(queued)
        self._also()
        for queued in self._waiting():
            self._send(queued)
        self._clear()

    def _fail_late(self) -> None:
        """The first call of a sweep, which tells whether the store was away.

        If it was, leases have run out under workers that live: let them renew these first. That this thread itself is
        late says nothing: on a busy machine the dead worker's jobs would only wait longer.
        """
        asked = time.monotonic()
        try:
            late = self._store.fail_late()
        except RedisError:
            self._away = True
            raise
        now = time.monotonic()
        if self._away or now - asked > self._lease_seconds / 2:
            self._away, self._patient_until = False, now + self._lease_seconds
        if late:
            log.info("%d records had waited too long", late)

    def _clear(self) -> None:
        expired = self._store.expired()
        for record in expired:
            self._dispose(record.id)
        self._store.forget(expired)
