"""A worker process: Celery takes messages and runs a pool of threads, all else is in the classes that they call."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_shutting_down

from service.settings import Settings
from service.store.queue import celery_options
from workers.upkeep.shutdown import Shutdown


@dataclass
class WorkerProcess:
    """A worker before it listens.

    Args:
        celery: the Celery application.
        queue: where its messages come from.
        threads: how many messages it works on at a time.
        begin: starts its threads.
        shutdown: called at each SIGTERM and SIGINT.
        close: ends its threads.
    """

    celery: Celery
    queue: str
    threads: int
    begin: Callable[[], None]
    shutdown: Shutdown
    close: Callable[[], None]

    def serve(self, log_level: str) -> None:
        """Take messages until SIGTERM or SIGINT; hand back what is in work, then return."""
        worker_shutting_down.connect(self.shutdown, weak=False)
        setup_logging.connect(_keep_logging, weak=False)
        self.begin()
        try:
            self.celery.Worker(
                pool="threads",
                concurrency=self.threads,
                queues=[self.queue],
                loglevel=log_level.upper(),
                hostname=f"{self.queue}@{socket.gethostname()}-{os.getpid()}",
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
                quiet=True,
            ).start()
        finally:
            self.shutdown.done()
            self.close()


def _keep_logging(**_: Any) -> None:
    """Its being connected keeps Celery from setting up log lines of its own."""


def make_celery(settings: Settings) -> Celery:
    """A Celery application with the settings that senders and workers share."""
    celery = Celery("coopserve", set_as_current=False)
    celery.conf.update(celery_options(settings))
    return celery
