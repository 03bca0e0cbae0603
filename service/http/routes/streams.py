"""The events of a record as server-sent events."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request, Response
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from service.access.security import Caller
from service.contract.addresses import Sign, under
from service.contract.errors import AccessError, UnprocessableError
from service.http.authentication import Identify, name_of
from service.http.root import root
from service.http.routes.common import owned
from service.services import Services
from service.store.events import START, Event, batches
from service.store.store import RecordStore

log = logging.getLogger(__name__)

_EVENT_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")


async def event_stream(
    parts: Services,
    request: Request,
    store: RecordStore[Any],
    id: str,
    caller: Caller,
    again: Identify,
    last_event_id: str | None,
    signed: int | None = None,
) -> Response:
    """The events of a record as server-sent events, from after ``last_event_id`` to the terminal status.

    Args:
        parts: of the API.
        request: the request.
        store: the records.
        id: which record.
        caller: who asks.
        again: asked before each batch of events whether the caller may still have them.
        last_event_id: the last event that the client has; None or '': it has none.
        signed: for how many seconds the addresses of pictures are signed; None: they are not.
    """
    if last_event_id and not _EVENT_ID.fullmatch(last_event_id):
        raise UnprocessableError("invalid-request", "Last-Event-ID must be the `id:` of an event of this stream")
    record = await run_in_threadpool(owned, store, id, caller)
    if getattr(request.state, "head", False):  # a stream would not end
        return EventSourceResponse(_all([]))
    sign = parts.signatures.signer(signed)
    stream, after = store.events_key(id), last_event_id or START
    if not record.status.terminal:
        name = name_of(request.scope)
        parts.open_streams.check(name)
        return EventSourceResponse(_followed(parts, batches(parts.streams, stream, after), name, again, sign))
    rest = [event async for batch in batches(parts.streams, stream, after, follow=False) for event in batch]
    if not rest and last_event_id:
        return Response(status_code=204)  # tells a browser's EventSource to stop asking
    if not rest:  # finished long ago: the events are gone, its end is not
        rest = [Event(START, "status", f'{{"status":"{record.status}","attempt":{record.attempt}}}')]
    return EventSourceResponse(_all(rest, sign))


async def _all(found: list[Event], sign: Sign | None = None) -> AsyncIterator[ServerSentEvent]:
    for event in found:
        yield _wire(event, sign)


async def _followed(
    parts: Services, found: AsyncIterator[list[Event]], name: str, again: Identify, sign: Sign | None
) -> AsyncIterator[ServerSentEvent]:
    """The events as they come, as long as the caller's key is good; a client that is cut off asks again and is told."""
    with parts.open_streams.hold(name):
        try:
            async for batch in found:
                await again()
                for event in batch:
                    yield _wire(event, sign)
        except RedisError as error:
            log.warning("a stream of events broke off: %s", error)
        except AccessError:
            log.info("a stream of events was ended: the key of %s was revoked", name)


def _wire(event: Event, sign: Sign | None) -> ServerSentEvent:
    path = root.get()
    data = json.dumps(under(path, json.loads(event.data), sign)) if path or sign else event.data
    return ServerSentEvent(data=data, event=event.name, id=event.id)
