"""What several routes share: parameters, answers and pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO

from fastapi import Header, Path, Query, Request, Response
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from pictures.encoding import MEDIA_TYPES, Format, encoded
from pictures.png import picture_of
from service.access.security import Caller
from service.contract.addresses import Sign, json_under
from service.contract.errors import NotFoundError, invalid
from service.contract.records import Record, Status
from service.http.root import root
from service.services import Services
from service.store.codec import RecordT
from service.store.store import RecordStore
from service.webhooks.post import BlockedError

_PART = 2**17
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
Signed = Annotated[
    int | None,
    Query(
        ge=1,
        le=604_800,
        description="Sign the addresses of pictures in the answer: for so many seconds (up to a quarter more) they "
        "need no API key, so that a page can show them. Whoever knows such an address sees its picture until then.",
        examples=[3600],
    ),
]
Cursor = Annotated[
    str | None,
    Query(pattern=r"^(job|trn)_[0-9a-f]{32}$", description="`next` of the previous page; absent: the first page."),
]


def json_of(
    model: BaseModel, status: int = 200, headers: dict[str, str] | None = None, sign: Sign | None = None
) -> Response:
    """A model as the answer, serialised once by Pydantic itself; ``sign`` signs the addresses of pictures in it."""
    return Response(json_under(root.get(), model, sign), status, headers, media_type="application/json")


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
    if caller.owner is None and parts.settings.shared_webhook_secret is None:
        raise invalid(
            "webhook", "the server can't sign it: set COOPSERVE_WEBHOOK_SECRET on the server, or use an API key"
        )
    try:
        parts.post.check(url)
    except BlockedError as error:
        raise invalid("webhook", str(error)) from None


def picture(
    parts: Services, request: Request, key: str, cache: str = IMMUTABLE, format: Format = "png"
) -> Response | None:
    """The picture of a blob key, kept as PNG, which never changes unless ``cache`` says so.

    Returns:
        304 if the client has it, None if there is none.
    """
    try:
        large = parts.blobs.open_large(key) if format == "png" else None
        if large is not None:
            return _streamed(request, large, cache)
        data = parts.blobs.get(key)
    except (FileNotFoundError, ValueError):  # ValueError: an id that no key could hold
        return None
    if format == "png":
        return png_answer(request, data, cache)
    return answer_with(request, encoded(picture_of(data), format), MEDIA_TYPES[format], cache)


def png_answer(request: Request, data: bytes, cache: str = IMMUTABLE) -> Response:
    """A PNG file that is in memory; 304 if the client has it."""
    return answer_with(request, data, "image/png", cache)


def answer_with(
    request: Request, data: bytes, media_type: str, cache: str = IMMUTABLE, name: str | None = None
) -> Response:
    """A file that is in memory; 304 if the client has it.

    Args:
        request: which it answers.
        data: the file.
        media_type: of it.
        cache: how long it holds.
        name: what it is called where it is saved.
    """
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    if unchanged := _unchanged(request, tag, cache):
        return unchanged
    named = {"Content-Disposition": f'inline; filename="{name}"'} if name else {}
    return Response(data, headers={**_headers(tag, cache), **named}, media_type=media_type)


def _streamed(request: Request, file: BinaryIO, cache: str) -> Response:
    """A large PNG, read while it is sent."""
    state = os.fstat(file.fileno())
    tag = f'"{state.st_ino:x}-{state.st_size:x}-{state.st_mtime_ns:x}"'
    if unchanged := _unchanged(request, tag, cache):
        file.close()
        return unchanged

    def parts() -> Iterator[bytes]:
        with file:
            while part := file.read(_PART):
                yield part

    headers = {**_headers(tag, cache), "Content-Length": str(state.st_size)}
    return StreamingResponse(parts(), headers=headers, media_type="image/png")


def _unchanged(request: Request, tag: str, cache: str) -> Response | None:
    """304 if the client has what the tag names."""
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=_headers(tag, cache))
    return None


def _headers(tag: str, cache: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": cache}


def no_picture(record: Record, what: str) -> NotFoundError:
    """The error for a picture that an existing record does not have."""
    return NotFoundError("unknown-image", f"{record.id} is {record.status.value} and has no {what}")
