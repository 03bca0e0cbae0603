"""One POST route for each task of the contract, made from its class."""

import inspect
import math
import re
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from service.access.security import Caller
from service.contract.errors import UnprocessableError
from service.contract.jobs import TASKS, JobRecord, JobRequest
from service.contract.records import Status
from service.http.accepting import accept, ended
from service.http.authentication import Who
from service.http.negotiation import TYPES, form_of
from service.http.problems import responses
from service.http.results import results
from service.http.routes import links
from service.http.routes.common import IdempotencyKey, json_of
from service.http.strict import JsonRoute
from service.services import Parts, Services
from service.store.types import Idempotency

Prefer = Annotated[
    str | None,
    Header(
        max_length=200,
        description="`wait=SECONDS` holds the answer until the job has finished, for at most that long; `wait` alone "
        "holds it as long as the server allows.",
        examples=["wait=30"],
    ),
]

_ANSWERS = (
    "Answers 202 at once with the queued job and its address. Follow `links.events` or read the job again; or send "
    "`Prefer: wait=SECONDS` to get the finished job in this answer (200). With `Accept: image/png` (or `image/webp`, "
    "`image/jpeg`) the answer is the image itself, of many images a contact sheet; with `Accept: application/zip` an "
    "archive of them. It is the record where there is no image, or not in time."
)
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,6})?")
_KINDS = (
    "malformed-json",
    "malformed-request",
    "unknown-model",
    "unknown-image",
    "compressed-body",
    "request-timeout",
    "body-too-large",
    "image-too-large",
    "mesh-too-large",
    "unsupported-media-type",
    "invalid-request",
    "invalid-image",
    "invalid-mesh",
    "unsupported-task",
    "unavailable-model",
    "idempotency-conflict",
    "queue-full",
    "too-many-jobs",
    "over-budget",
    "too-much-stored",
    "storage-full",
    "unavailable",
)


def build() -> APIRouter:
    """The routes of all tasks."""
    router = APIRouter(tags=["tasks"], route_class=JsonRoute)
    for name, request_type in TASKS.items():
        _add(router, name, request_type)
    return router


def _add(router: APIRouter, name: str, request_type: type[JobRequest]) -> None:
    summary, _, rest = inspect.cleandoc(request_type.__doc__ or "").partition("\n")
    example = {"default": {"summary": "Runs as it stands", "value": request_type.example}}

    @router.post(
        f"/v1/{name}",
        name=name,
        summary=summary.rstrip("."),
        description=f"{rest.strip()}\n\n{_ANSWERS}",
        response_model=JobRecord,
        status_code=202,
        openapi_extra={"x-pictures": request_type.pictures} if request_type.pictures else None,
        responses={
            200: {
                "model": JobRecord,
                "description": "The finished job, if it ended within `Prefer: wait`; or its image, see Accept.",
                "links": links.JOB,
                "content": {type: {} for form, type in TYPES.items() if form != "json"},
            },
            202: {
                "description": "The job was queued.",
                "headers": {"Location": {"description": "The job.", "schema": {"type": "string"}}},
                "links": links.JOB,
            },
            **responses(_KINDS),
        },
    )
    async def create(
        parts: Parts,
        who: Who,
        body: Annotated[request_type, Body(openapi_examples=example)],  # type: ignore[valid-type]
        request: Request,
        prefer: Prefer = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        return await _create(parts, who, body, request, idempotency_key)


async def _create(parts: Services, who: Caller, body: JobRequest, request: Request, key: str | None) -> Response:
    wait, form = _wait_seconds(request), form_of(request)
    if wait is None and form != "json":  # whoever asks for the picture itself will wait for it
        wait = math.inf
    seconds = None if wait is None else min(wait, parts.settings.wait_max_seconds)
    # The id is made before the job is, so that its end can't come before we watch for it.
    id = JobRecord.new_id()
    with parts.finished.watch(id) as finished:
        record, created = await accept(parts, who, id, body, Idempotency(key, body, who.owner) if key else None)
        if seconds is not None and created:
            record = await ended(parts, record, finished, seconds)
    if seconds is not None and not created and not record.status.terminal:
        with parts.finished.watch(record.id) as finished:
            record = await ended(parts, await run_in_threadpool(parts.jobs.get, record.id), finished, seconds)
    headers = {"Location": record.links.self}
    if seconds is not None:
        headers["Preference-Applied"] = f"wait={seconds:g}"
    headers["Vary"] = "Accept"
    if form != "json" and record.status is Status.SUCCEEDED and any(output.url for output in record.outputs):
        answer = await run_in_threadpool(results, parts, request, record, form)
        answer.headers.update(headers)
        return answer
    done = seconds is not None and record.status.terminal
    return json_of(record, 200 if done else 202, headers)


def _wait_seconds(request: Request) -> float | None:
    """The seconds of ``Prefer: wait=SECONDS``, on any of its lines; the first one counts (RFC 7240).

    Other preferences are left unused, as the RFC allows.
    """
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() != "wait":
            continue
        seconds = value.strip().strip('"')
        if not seconds:
            return math.inf
        if not _SECONDS.fullmatch(seconds):
            error: dict[str, Any] = {"loc": ["header", "Prefer"], "msg": "wait needs seconds", "type": "wait_parsing"}
            raise UnprocessableError("invalid-request", "Prefer: use wait=SECONDS, such as wait=30", errors=[error])
        return float(seconds)
    return None
