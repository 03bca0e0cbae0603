"""What SIGTERM does to a worker: it hands back what it holds within a grace period; a second one ends it at once."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class Shutdown:
    """Receives Celery's ``worker_shutting_down``, which each SIGTERM sends.

    Args:
        stop: makes the worker end its work; returns at once.
        seconds: how long that may take.
        leave: ends the process; what it holds is then found by its leases.
    """

    def __init__(self, stop: Callable[[], None], seconds: float, leave: Callable[[int], None] = os._exit) -> None:
        self._stop, self._seconds, self._leave = stop, seconds, leave
        self._asked = False
        self._timer: threading.Timer | None = None

    def __call__(self, **_: Any) -> None:
        if self._asked:
            log.warning("asked to stop again: leaving at once")
            self._leave(1)
            return
        self._asked = True
        self._stop()
        self._timer = threading.Timer(self._seconds, self._too_slow)
        self._timer.daemon = True
        self._timer.start()

    def done(self) -> None:
        """Everything is handed back: the process may take its time to end."""
        if self._timer is not None:
            self._timer.cancel()

    def _too_slow(self) -> None:
        log.warning("could not hand back everything within %g s: leaving", self._seconds)
        self._leave(1)


def leave(status: int = 0) -> None:
    """End the process now: a thread that is inside torch at the interpreter's own end would abort it."""
    logging.shutdown()
    os._exit(status)
