"""The worker's sign of life: renews leases, carries progress out and cancel requests in."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from redis import RedisError

from service.contract.records import Progress, Record
from service.observe.process import working_on
from service.settings import Settings
from service.store.presence import Presence
from service.store.store import RecordStore
from service.store.types import Beat

log = logging.getLogger(__name__)


class Work(Protocol):
    """What the heart must know of a record in work. Its methods are called from the heart's thread."""

    def progress(self) -> Progress | None:
        """How far it is; None if nothing new is to be said."""

    def metrics(self) -> Mapping[str, float] | None:
        """Its latest figures; None if nothing new is to be said."""

    def cancel(self) -> None:
        """Its client wants it to stop."""

    def lose(self) -> None:
        """Another attempt holds the record now: stop, and commit nothing."""


class Heart(threading.Thread):
    """One thread a worker process.

    Args:
        store: where the records are.
        presence: where living workers are announced.
        settings: lease and heartbeat times.
        kind: ``inference`` or ``training``.
        worker: this worker's id.
        figures: what else to announce about the worker.
    """

    def __init__(
        self,
        store: RecordStore[Any],
        presence: Presence,
        settings: Settings,
        kind: str,
        worker: str,
        figures: Callable[[], Mapping[str, Any]],
    ) -> None:
        super().__init__(name="heart", daemon=True)
        self._store, self._presence = store, presence
        self._settings, self._kind, self._worker, self._figures = settings, kind, worker, figures
        self._works: dict[tuple[str, int], Work] = {}
        self._lock = threading.Lock()
        self._stop_event = threading.Event()
        self._last: float | None = None
        self.longest_gap = 0.0
        """The most seconds that have passed between two heartbeats; leases must be longer."""

    @contextmanager
    def hold(self, record: Record, work: Work) -> Iterator[None]:
        """Keep the lease of a claimed record alive while the block runs; its log lines and traces name the record."""
        key = (record.id, record.attempt)
        with self._lock:
            self._works[key] = work
        try:
            with working_on(record):
                yield
        finally:
            with self._lock:
                self._works.pop(key, None)

    @property
    def active(self) -> int:
        """How many records are in work."""
        return len(self._works)

    def stop(self) -> None:
        """End the thread and take the worker off the list of the living."""
        self._stop_event.set()
        if self.is_alive():
            self.join(5.0)
        try:
            self._presence.leave(self._worker)
        except RedisError as error:
            log.warning("could not say goodbye: %s", error)

    def run(self) -> None:
        while True:
            try:
                self._beat()
            except RedisError as error:  # the store is away for a while: leases may lapse, the work goes on
                log.warning("no heartbeat: %s", error)
            except Exception:
                log.exception("the heartbeat failed")
            if self._stop_event.wait(self._settings.heartbeat_seconds):
                return

    def _beat(self) -> None:
        settings = self._settings
        with self._lock:
            works = dict(self._works)
        beats = [Beat(id, attempt, w.progress(), w.metrics()) for (id, attempt), w in works.items()]
        pulses = self._store.heartbeat(beats, settings.lease_seconds)
        now = time.monotonic()
        self.longest_gap, self._last = max(self.longest_gap, now - (self._last or now)), now
        for (key, work), pulse in zip(works.items(), pulses, strict=True):
            if pulse == "cancel":
                work.cancel()
            elif pulse == "stale" and key in self._works:  # not if it was finished in the meantime
                log.warning("lost %s (attempt %d) to another worker", *key)
                work.lose()
        ttl = settings.heartbeat_seconds + settings.lease_seconds
        figures = {"active": len(works), "longest_heartbeat_gap_seconds": round(self.longest_gap, 3)}
        info = {"kind": self._kind, **figures, **self._figures()}
        self._presence.announce(self._worker, info, ttl)
