"""The way of a new record into the store: what its script is given, and what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Generic, Unpack

import redis.asyncio

from service.contract.errors import (
    IdempotencyError,
    PicturesGoneError,
    ServiceError,
    StorageError,
    TakenError,
    TooManyError,
)
from service.store import codec
from service.store.codec import RecordT
from service.store.scripts import load_scripts, prefix_of
from service.store.types import Idempotency, QueueLimits, StorageLimits, Terms

IDEMPOTENCY_SECONDS = 86_400
KEEP_SECONDS = 86_400.0
_NO_LIMITS, _NO_STORAGE_LIMITS = QueueLimits(), StorageLimits()
_AT_A_TIME = 64
"""Connections of a process for submissions: more requests than that wait here, not in the store."""


def arguments(record: RecordT, keep_seconds: float, terms: Terms) -> list[str | float]:
    """What ``lua/submit.lua`` is given for a record."""
    idempotency, limits, name = terms.get("idempotency"), terms.get("limits", _NO_LIMITS), terms.get("name")
    storage = terms.get("storage", _NO_STORAGE_LIMITS)
    return [
        record.id,
        codec.document_of(record),
        terms.get("priority", 5),
        terms.get("queue", ""),
        terms.get("owner") or "",
        terms.get("cost", 0.0),
        keep_seconds,
        codec.or_empty(terms.get("max_queue_seconds")),
        *(idempotency.hashes if idempotency else ("", "")),
        IDEMPOTENCY_SECONDS,
        *map(codec.or_empty, (limits.max_queued, limits.max_active, limits.max_cost)),
        codec.json_of(record.context) if record.context else "",
        "" if record.webhook is None else "1",
        *((name.name, name.owner or "", "1" if name.adopt else "") if name else ("", "", "")),
        terms.get("bytes", 0),
        *map(codec.or_empty, (storage.owner, storage.all, storage.records)),
        codec.json_of(record.inputs) if record.inputs else "",
        *(terms.get("message") or ()),
    ]


def outcome(record_type: type[RecordT], answer: Sequence[Any], terms: Terms) -> tuple[RecordT, bool]:
    """The stored record and whether it is new, from the script's answer.

    Raises:
        IdempotencyError: the key was used before for another body.
        PicturesGoneError: it came so late that its pictures are gone.
        TakenError: somebody else trains under the name.
        StorageError: there is no room for it.
        TooManyError: a limit refuses it.
    """
    if answer[0] in ("created", "same"):
        return codec.record_of(record_type, answer[1]), answer[0] == "created"
    raise _refusal(answer, terms.get("idempotency"))


def _refusal(answer: Sequence[Any], idempotency: Idempotency | None) -> ServiceError:
    if answer[0] == "name-taken":
        return TakenError(answer[1])
    if answer[0] == "conflict":
        assert idempotency is not None
        return IdempotencyError(idempotency.key)
    if answer[0] == "gone":
        return PicturesGoneError()
    if answer[0] in ("storage-full", "too-much-stored"):
        return StorageError(answer[0], int(answer[1]))
    return TooManyError(answer[0], int(answer[1]))


class Submissions(Generic[RecordT]):
    """Puts records of one type into the queue, from the event loop: a thread for each request costs more under load.

    Args:
        client: a client made by :func:`service.store.connection.connect_async`.
        record_type: as the store's.
        keep_seconds: how long the records are kept after their end.
        namespace: as the store's.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        record_type: type[RecordT],
        keep_seconds: float = KEEP_SECONDS,
        namespace: str = "coopserve",
    ) -> None:
        self._type, self._keep_seconds = record_type, keep_seconds
        self._keys = [prefix_of(record_type, namespace)]
        scripts = load_scripts()
        self._script, self._earlier = (client.register_script(scripts[name]) for name in ("submit", "earlier"))
        self._turns = asyncio.Semaphore(_AT_A_TIME)

    async def earlier(self, idempotency: Idempotency) -> RecordT | None:
        """The record that was made by an idempotency key before, for the same body; None if there is none.

        Raises:
            IdempotencyError: the key was used before for another body.
        """
        answer = await self._earlier(keys=self._keys, args=idempotency.hashes)
        if answer[0] == "none":
            return None
        return outcome(self._type, answer, {"idempotency": idempotency})[0]

    async def submit(self, record: RecordT, **terms: Unpack[Terms]) -> tuple[RecordT, bool]:
        """Put a new record in the queue; gives the stored record and whether it is new.

        With an idempotency key that was used before for the same body, gives the earlier record.

        Raises:
            IdempotencyError: the key was used before for another body.
            ServiceError: it is refused otherwise, as :func:`outcome` says. After any other error, such as a lost
                connection, it may have been accepted.
        """
        args = arguments(record, self._keep_seconds, terms)
        async with self._turns:
            answer = await self._script(keys=self._keys, args=args)
        return outcome(self._type, answer, terms)
