"""Webhooks that wait to be sent. The script that ends a record puts its webhook here, so none is lost in a crash."""

from __future__ import annotations

from typing import Generic

import redis

from service.contract.records import Delivery
from service.store.codec import RecordT, json_of, record_of
from service.store.scripts import Scripts


class Deliveries(Generic[RecordT]):
    """The webhooks of all records of one type. Safe to use from many threads and processes.

    Args:
        client: a client made by :func:`service.store.connection.connect`.
        record_type: the type of the records.
        namespace: what all keys begin with.
    """

    def __init__(self, client: redis.Redis, record_type: type[RecordT], namespace: str = "coopserve") -> None:
        self._type = record_type
        self._scripts = Scripts(client, record_type, namespace)

    def due(self, limit: int, hold_seconds: float) -> list[RecordT]:
        """Finished records whose webhooks are to be sent now.

        Nobody else is given them for ``hold_seconds``; after that they are due again, unless :meth:`note` was called.
        """
        return [record_of(self._type, answer) for answer in self._scripts.run("webhooks_due", limit, hold_seconds)]

    def note(self, id: str, delivery: Delivery, again_seconds: float | None) -> None:
        """Write how the delivery stands, and when it is due again; None: never."""
        self._scripts.run("webhook_note", id, json_of(delivery), "" if again_seconds is None else again_seconds)
