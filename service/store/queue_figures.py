"""Figures of one record store for monitoring: what waits and for how long, and how often records changed status."""

from __future__ import annotations

from typing import NamedTuple

import redis

from service.contract.records import Record, Status
from service.store.scripts import Scripts


class ModelQueue(NamedTuple):
    """Records that wait for one model.

    Args:
        model: its name; '' for trainings.
        waiting: how many wait.
        oldest_seconds: for how long the oldest has waited.
    """

    model: str
    waiting: int
    oldest_seconds: float


class Move(NamedTuple):
    """How often records went from one status to another, since the database began."""

    source: Status
    target: Status
    times: int


class QueueFigures:
    """Reads the figures. Safe to use from many threads.

    Args:
        client: a client made by :func:`service.store.connection.connect`.
        record_type: the type of the records.
        namespace: what all keys begin with.
    """

    def __init__(self, client: redis.Redis, record_type: type[Record], namespace: str = "coopserve") -> None:
        self._client = client
        self._scripts = Scripts(client, record_type, namespace)

    def queues(self) -> list[ModelQueue]:
        """The queues in which records wait."""
        flat = self._scripts.run("queues")
        return [ModelQueue(*row) for row in zip(flat[::3], map(int, flat[1::3]), map(float, flat[2::3]), strict=True)]

    def moves(self) -> list[Move]:
        """All changes of status that have happened."""
        found = []
        for move, times in sorted(self._client.hgetall(f"{self._scripts.prefix}:moves").items()):
            source, target = str(move).split(" ")
            found.append(Move(Status(source), Status(target), int(times)))
        return found

    def webhooks(self) -> int:
        """How many webhooks wait to be sent, or to be sent again."""
        return int(self._scripts.run("webhooks_waiting"))
