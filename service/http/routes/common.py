"""What several routes share: parameters, answers and pictures."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import Header, Path, Query, Request, Response
from pydantic import BaseModel

from service.access.security import Caller
from service.contract.errors import NotFoundError, invalid
from service.contract.records import Record, Status
from service.services import Services
from service.store.codec import RecordT
from service.store.store import RecordStore
from service.webhooks.post import BlockedError

IMMUTABLE = "private, max-age=31536000, immutable"
CHANGING = "private, no-cache"
"""Of pictures that change: clients ask each time whether theirs is current."""

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


def picture(parts: Services, request: Request, key: str, cache: str = IMMUTABLE) -> Response | None:
    """The PNG of a blob key, which never changes unless ``cache`` says so; 304 if the client has it, None without."""
    try:
        data = parts.blobs.get(key)
    except (FileNotFoundError, ValueError):  # ValueError: an id that no key could hold
        return None
    return png_answer(request, data, cache)


def png_answer(request: Request, data: bytes, cache: str = IMMUTABLE) -> Response:
    """A PNG that never changes unless ``cache`` says so, or 304 if the client has it."""
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": cache}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="image/png")


def no_picture(record: Record, what: str) -> NotFoundError:
    """The error for a picture that an existing record does not have."""
    return NotFoundError("unknown-image", f"{record.id} is {record.status.value} and has no {what}")
