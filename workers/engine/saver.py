"""Keeps chains while the engine goes on: the engine notes where rows are, this one does the work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from workers.chains.chain import Snapshot
from workers.engine.tickets import Ticket

log = logging.getLogger(__name__)

SHARE = 0.02
"""The most of the processor's time that saving may take from the engine."""


class Saver(threading.Thread):
    """One thread an engine. The engine gives it snapshots when it is free, and never waits for it."""

    def __init__(self) -> None:
        super().__init__(name="saver", daemon=True)
        self._snapshots: dict[Ticket[Any], Snapshot] = {}
        self._given = threading.Event()
        self._rest_until = 0.0
        self._stopping = False
        self.kept = 0
        """How many chains it has kept."""

    @property
    def free(self) -> bool:
        """Whether it takes snapshots: it has done its work, and rested long enough."""
        return not self._given.is_set() and time.monotonic() >= self._rest_until

    def add(self, snapshots: Mapping[Ticket[Any], Snapshot]) -> None:
        """Give it work; :meth:`go` starts it."""
        self._snapshots.update(snapshots)

    def go(self) -> None:
        """Start to keep what was added."""
        if self._snapshots:
            self._given.set()

    def stop(self) -> None:
        """End the thread after the chain that it is at."""
        self._stopping = True
        self._given.set()
        self.join(2.0)

    def run(self) -> None:
        while self._given.wait() and not self._stopping:
            begin = time.thread_time()
            self._keep_all()
            self._rest_until = time.monotonic() + (time.thread_time() - begin) / SHARE
            self._given.clear()

    def _keep_all(self) -> None:
        """A method of its own, so that an idle thread holds nothing of the tasks that it had last."""
        for ticket, snapshot in self._snapshots.items():
            if self._stopping:
                return
            self._keep(ticket, snapshot)
        self._snapshots = {}

    def _keep(self, ticket: Ticket[Any], snapshot: Snapshot) -> None:
        if ticket.keep is None or ticket.cancelled:
            return
        try:
            ticket.keep(snapshot.chain())
            self.kept += 1
        except Exception:  # the next time is soon, and the job goes on without
            log.exception("a chain was not kept")
