"""Webhooks that wait to be sent. The script that ends a record puts its webhook here, so none is lost in a crash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Generic

import redis

from service.contract.records import Delivery
from service.store.codec import RecordT, json_of, record_of
from service.store.scripts import Scripts

_NOBODY: Mapping[str | None, int] = MappingProxyType({})


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

    def due(
        self, limit: int, hold_seconds: float, share: int | None = None, sending: Mapping[str | None, int] = _NOBODY
    ) -> list[RecordT]:
        """Finished records whose webhooks are to be sent now.

        Nobody else is given them for ``hold_seconds``; after that they are due again, unless :meth:`note` was called.

        Args:
            limit: at most so many.
            hold_seconds: for how long they are not due.
            share: at most so many of one owner, with those that are being sent; None: no limit.
            sending: how many of each owner are being sent.
        """
        held = json.dumps({owner or "": count for owner, count in sending.items()})
        answers = self._scripts.run("webhooks_due", limit, limit if share is None else share, hold_seconds, held)
        return [record_of(self._type, answer) for answer in answers]

    def note(self, record: RecordT, delivery: Delivery, again_seconds: float | None) -> None:
        """Write how the delivery of a record stands, and when it is due again; None: never."""
        again = "" if again_seconds is None else again_seconds
        self._scripts.run("webhook_note", record.id, record.owner or "", json_of(delivery), again)
