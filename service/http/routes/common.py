"""What several routes share: parameters, answers and pictures."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Header, Path, Query, Request, Response
from pydantic import BaseModel
from redis.exceptions import RedisError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from service.access.security import Caller
from service.contract.errors import NotFoundError, UnprocessableError, invalid
from service.contract.records import Record, Status
from service.services import Services
from service.store.codec import RecordT
from service.store.events import START, Event, events
from service.store.store import RecordStore
from service.webhooks.post import BlockedError

log = logging.getLogger(__name__)

_EVENT_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_IMMUTABLE = "private, max-age=31536000, immutable"

JobId = Annotated[str, Path(description="Id of the job.", max_length=100, examples=["job_0193"])]
TrainingId = Annotated[str, Path(description="Id of the training.", max_length=100, examples=["trn_0193"])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="A name of your own for this request. For a day, the same key with the same body gives the same "
        "record instead of a second one.",
    ),
]
LastEventId = Annotated[
    str | None,
    Header(description="The id of the last event that you have; the stream resumes after it. Browsers send it."),
]
StatusFilter = Annotated[Status | None, Query(description="Only records with this status.")]
Limit = Annotated[int, Query(ge=1, le=100, description="Number of records on a page, at most.")]
Cursor = Annotated[
    str | None,
    Query(pattern=r"^(job|trn)_[0-9a-f]{32}$", description="`next` of the previous page; absent: the first page."),
]


def json_of(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A model as the answer, serialised once by Pydantic itself."""
    return Response(model.model_dump_json(), status, headers, media_type="application/json")


def owned(store: RecordStore[RecordT], id: str, caller: Caller) -> RecordT:
    """A record that the caller may see.

    Raises:
        NotFoundError: there is none, or it is another's: the caller can't tell which.
    """
    record = store.get(id)
    if not caller.sees(record.owner):
        raise store.unknown(id)
    return record


def check_owner(store: RecordStore[Any], id: str, caller: Caller) -> None:
    """Check that the caller may see what belongs to a record; costs nothing for callers who see all.

    Raises:
        NotFoundError: as :func:`owned` does.
    """
    if not caller.sees_all:
        owned(store, id, caller)


def check_webhook(parts: Services, caller: Caller, url: str | None) -> None:
    """Check that a request's webhook could be sent.

    Raises:
        UnprocessableError: there is nothing to sign it with, or its address must not be reached.
    """
    if url is None:
        return
    if caller.owner is None and parts.settings.webhook_secret is None:
        raise invalid(
            "webhook", "the server can't sign it: set COOPSERVE_WEBHOOK_SECRET on the server, or use an API key"
        )
    try:
        parts.post.check(url)
    except BlockedError as error:
        raise invalid("webhook", str(error)) from None


def picture(parts: Services, request: Request, key: str) -> Response | None:
    """The PNG of a blob key, which never changes; 304 if the client has it, None if there is none."""
    try:
        data = parts.blobs.get(key)
    except (FileNotFoundError, ValueError):  # ValueError: an id that no key could hold
        return None
    return png_answer(request, data)


def png_answer(request: Request, data: bytes) -> Response:
    """A PNG that never changes, or 304 if the client has it."""
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": _IMMUTABLE}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="image/png")


def no_picture(record: Record, what: str) -> NotFoundError:
    """The error for a picture that an existing record does not have."""
    return NotFoundError("unknown-image", f"{record.id} is {record.status.value} and has no {what}")


async def event_stream(
    parts: Services, store: RecordStore[RecordT], id: str, caller: Caller, last_event_id: str | None
) -> Response:
    """The events of a record as server-sent events, from after ``last_event_id`` to the terminal status."""
    if last_event_id is not None and not _EVENT_ID.fullmatch(last_event_id):
        raise UnprocessableError("invalid-request", "Last-Event-ID must be the `id:` of an event of this stream")
    record = await run_in_threadpool(owned, store, id, caller)
    stream = store.events_key(id)
    if not record.status.terminal:
        follow = events(parts.streams, stream, last_event_id or START)
        return EventSourceResponse(_wire(follow))
    rest = [event async for event in events(parts.streams, stream, last_event_id or START, follow=False)]
    if not rest and last_event_id is not None:
        return Response(status_code=204)  # tells a browser's EventSource to stop asking
    if not rest:  # finished long ago: the events are gone, its end is not
        rest = [Event(START, "status", f'{{"status":"{record.status}","attempt":{record.attempt}}}')]
    return EventSourceResponse(_wire(_all(rest)))


async def _all(found: list[Event]) -> AsyncIterator[Event]:
    for event in found:
        yield event


async def _wire(found: AsyncIterator[Event]) -> AsyncIterator[ServerSentEvent]:
    try:
        async for event in found:
            yield ServerSentEvent(data=event.data, event=event.name, id=event.id)
    except RedisError as error:  # the answer has begun: end it, and the client resumes where it stopped
        log.warning("a stream of events broke off: %s", error)
