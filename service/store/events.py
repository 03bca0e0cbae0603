"""Events of records, read without polling: a stream for one client, and a shared listener for those that wait."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

from service.contract.records import Status

log = logging.getLogger(__name__)

_BLOCK_MS = 20_000
_BATCH = 200
_ANSWER_SECONDS = 5.0
_QUIET_SECONDS = 5.0
_RECONNECT_SECONDS = 0.5
_CONNECTIONS = 8192  # each follower of a stream holds one while it waits

START = "0-0"
"""The id before the first event of every stream."""


class Event(NamedTuple):
    """One event of a record. Ids grow; ``data`` is JSON."""

    id: str
    name: str
    data: str

    @property
    def last(self) -> bool:
        """True for the announcement of a terminal status: nothing comes after it."""
        return self.name == "status" and Status(json.loads(self.data)["status"]).terminal


def connect(url: str) -> redis.asyncio.Redis:
    """A client for blocking reads: its socket waits longer than they do, and gives up one that fell silent."""
    return redis.asyncio.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_BLOCK_MS / 1000 + _ANSWER_SECONDS,
        socket_connect_timeout=2.0,
        socket_keepalive=True,
        max_connections=_CONNECTIONS,
    )


async def batches(
    client: redis.asyncio.Redis, stream: str, last_id: str = START, *, follow: bool = True
) -> AsyncIterator[list[Event]]:
    """The events after ``last_id``, as they come, up to the terminal status; an empty batch after each long silence.

    Args:
        client: a client made by :func:`connect`.
        stream: the key that :meth:`service.store.store.RecordStore.events_key` gives.
        last_id: the last event that the reader has.
        follow: False = only what is there already (for records that are finished).
    """
    while True:
        answer = await client.xread({stream: last_id}, count=_BATCH, block=_BLOCK_MS if follow else None)
        found = [Event(id, fields["event"], fields["data"]) for id, fields in _entries(answer)]
        yield found
        if any(event.last for event in found) or (not found and not follow):
            return
        last_id = found[-1].id if found else last_id


def _entries(answer: object) -> list[tuple[str, dict[str, str]]]:
    """The entries of the one stream in an XREAD answer, whichever protocol version shaped it."""
    if not answer:
        return []
    if isinstance(answer, dict):
        (batches,) = answer.values()
        return [entry for batch in batches for entry in (batch if isinstance(batch, list) else [batch])]
    assert isinstance(answer, list)
    ((_, entries),) = answer
    return list(entries)


class Watch:
    """Waits for the end of one record."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._fields: str | None = None

    def tell(self, fields: str | None) -> None:
        """The record has finished, or may have: nothing is known of its fields."""
        self._fields = fields
        self._event.set()

    async def wait(self, seconds: float) -> str | None:
        """Wait until the record *may* have finished; gives its fields, for ``announced`` to read.

        None: the time is up, or the connection was lost for a while. Look at the record, and wait again if need be.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()
        fields, self._fields = self._fields, None
        return fields


class Finished:
    """Tells waiting requests of this process which records have finished, over one connection for all of them."""

    def __init__(self, client: redis.asyncio.Redis, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._waiting: dict[str, set[Watch]] = {}

    @contextlib.contextmanager
    def watch(self, id: str) -> Iterator[Watch]:
        """Hear of the end of a record; begin to watch before you submit or look."""
        watch = Watch()
        self._waiting.setdefault(id, set()).add(watch)
        try:
            yield watch
        finally:
            self._waiting[id].discard(watch)
            if not self._waiting[id]:
                del self._waiting[id]

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                async with self._client.pubsub() as channel:
                    await channel.subscribe(self._channel)
                    await self._listen(channel)
            except (RedisError, OSError) as error:
                log.warning("lost the announcements of finished records, trying again: %s", error)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self, channel: redis.asyncio.client.PubSub) -> None:
        """Take messages; in a silence ask for a sign of life.

        Raises:
            TimeoutError: there was none, so the connection is dead without having been closed.
        """
        asked = False
        while True:
            message = await channel.get_message(timeout=_QUIET_SECONDS)
            if message is not None:
                self._receive(message)
            elif asked:
                raise TimeoutError(f"no sign of life for {2 * _QUIET_SECONDS:.0f} s")
            else:
                await channel.ping()
            asked = message is None

    def _receive(self, message: dict[str, object]) -> None:
        if message["type"] == "message":
            id, _, fields = str(message["data"]).partition(" ")
            for watch in self._waiting.get(id, ()):
                watch.tell(fields or None)  # a worker of an earlier version announces the id alone
        elif message["type"] == "subscribe":  # perhaps again: something may have been missed before
            for waiting in self._waiting.values():
                for watch in waiting:
                    watch.tell(None)
