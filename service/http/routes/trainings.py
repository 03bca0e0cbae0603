"""Trainings: start, read, list, cancel, follow, and their sample sheets."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from anyio import from_thread
from fastapi import APIRouter, Body, Path, Request, Response
from pydantic import BaseModel, Field

from service.access.names import owner_of_new
from service.contract.trainings import TrainingHistory, TrainingRecord, TrainingRequest
from service.http.authentication import Again, Who
from service.http.problems import responses
from service.http.routes import links
from service.http.routes.common import (
    CHANGING,
    Cursor,
    IdempotencyKey,
    LastEventId,
    Limit,
    Signed,
    StatusFilter,
    TrainingId,
    check_owner,
    check_webhook,
    json_of,
    no_picture,
    owned,
    picture,
)
from service.http.routes.streams import event_stream
from service.http.strict import JsonRoute
from service.observe.process import context
from service.pictures.places import training_figure, training_history, training_sample
from service.services import Parts, Services
from service.store.presence import MEMORY_FIGURE
from service.store.types import Idempotency, Name

router = APIRouter(tags=["trainings"])
starting = APIRouter(tags=["trainings"], route_class=JsonRoute)

_EXAMPLE = {
    "default": {
        "summary": "Runs as it stands",
        "value": {"data": "fashion-mnist", "name": "my-fashion", "iterations": 200},
    }
}


class TrainingPage(BaseModel):
    """Trainings, newest first."""

    items: list[TrainingRecord] = Field(description="The trainings of this page.")
    next: str | None = Field(description="Send it as `cursor` for the next page; null at the end.")


@starting.post(
    "/v1/trainings",
    response_model=TrainingRecord,
    status_code=202,
    summary="Fit a model",
    description=TrainingRequest.__doc__,
    responses={
        202: {
            "description": "The training was queued.",
            "headers": {"Location": {"description": "The training.", "schema": {"type": "string"}}},
            "links": links.TRAINING,
        },
        **responses(
            [
                "malformed-json",
                "malformed-request",
                "compressed-body",
                "request-timeout",
                "body-too-large",
                "unsupported-media-type",
                "invalid-request",
                "idempotency-conflict",
                "name-taken",
                "queue-full",
                "too-many-jobs",
                "too-much-stored",
                "storage-full",
                "unavailable",
            ]
        ),
    },
)
def start_training(
    parts: Parts,
    who: Who,
    body: Annotated[TrainingRequest, Body(openapi_examples=_EXAMPLE)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Store the training and queue it."""
    check_webhook(parts, who, body.webhook)
    parts.room.check(0)
    parts.trainable.check_request(body, parts.settings.datasets_dir, _memory(parts), who.owner)
    record = TrainingRecord.new(body, context())
    owner = owner_of_new(body.name, parts.catalog.owners(body.name), who)
    submit = partial(
        parts.training_submissions.submit,
        record,
        owner=who.owner,
        idempotency=Idempotency(idempotency_key, body, who.owner) if idempotency_key else None,
        limits=who.limits(parts.settings.max_queued),
        name=Name(body.name, owner, adopt=who.sees_all),
        storage=parts.storage,
        message=parts.training_queue.message(record.id),
    )
    record, _ = from_thread.run(submit)  # on the event loop, which owns the connections
    return json_of(record, 202, {"Location": record.links.self})


def _memory(parts: Services) -> int:
    """The most bytes that a training may take: the living trainers know; without one, the settings."""
    said = [info.get(MEMORY_FIGURE) for info in parts.presence.workers().values() if info.get("kind") == "training"]
    return max((limit for limit in said if isinstance(limit, int)), default=parts.settings.training_memory)


@router.get(
    "/v1/trainings",
    response_model=TrainingPage,
    responses={200: {"links": links.TRAININGS}, **responses(["invalid-request", "unavailable"])},
)
def list_trainings(
    parts: Parts,
    who: Who,
    status: StatusFilter = None,
    cursor: Cursor = None,
    limit: Limit = 20,
    signed: Signed = None,
) -> Response:
    """List trainings, newest first."""
    items, following = parts.trainings.page(status, cursor, limit, who.listing)
    return json_of(TrainingPage(items=items, next=following), sign=parts.signatures.signer(signed))


@router.get(
    "/v1/trainings/{id}",
    response_model=TrainingRecord,
    responses={200: {"links": links.TRAINING}, **responses(["unknown-training", "invalid-request", "unavailable"])},
)
def get_training(parts: Parts, who: Who, id: TrainingId, signed: Signed = None) -> Response:
    """Get the record of a training: status, latest metrics, sample sheets, and the model once it has succeeded."""
    return json_of(owned(parts.trainings, id, who), sign=parts.signatures.signer(signed))


@router.post(
    "/v1/trainings/{id}/cancel",
    response_model=TrainingRecord,
    responses={200: {"links": links.TRAINING}, **responses(["unknown-training", "invalid-request", "unavailable"])},
)
def cancel_training(parts: Parts, who: Who, id: TrainingId) -> Response:
    """Cancel a training. A queued one is cancelled at once, a running one stops between two updates.

    A finished training stays as it is, so the request can be repeated safely.
    """
    check_owner(parts.trainings, id, who)
    return json_of(parts.trainings.cancel(id))


@router.get(
    "/v1/trainings/{id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The events."},
        204: {"description": "The training has finished and you have all its events."},
        **responses(["unknown-training", "invalid-request", "too-many-streams", "unavailable"]),
    },
)
async def training_events(
    parts: Parts,
    who: Who,
    request: Request,
    again: Again,
    id: TrainingId,
    last_event_id: LastEventId = None,
    signed: Signed = None,
) -> Response:
    """Follow a training by server-sent events: `status`, `progress`, `metrics` and `sample`, each with JSON data.

    The stream ends after the terminal status, and resumes after Last-Event-ID.
    """
    return await event_stream(parts, request, parts.trainings, id, who, again, last_event_id, signed)


@router.get(
    "/v1/trainings/{id}/samples/{iteration}",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "The sheet."},
        304: {"description": "Your copy is current."},
        **responses(["unknown-training", "unknown-image", "invalid-request", "unavailable"]),
    },
)
def training_samples(
    parts: Parts,
    who: Who,
    request: Request,
    id: TrainingId,
    iteration: Annotated[int, Path(ge=0, le=10**9, description="The iteration of the sheet.", examples=[200])],
) -> Response:
    """Get a sheet of samples of a training as PNG; its address is in the record and in the `sample` event."""
    check_owner(parts.trainings, id, who)
    answer = picture(parts, request, training_sample(id, iteration).key)
    if answer is None:
        raise no_picture(parts.trainings.get(id), f"sample sheet of iteration {iteration}")
    return answer


@router.get(
    "/v1/trainings/{id}/figure",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "The figure."},
        304: {"description": "Your copy is current."},
        **responses(["unknown-training", "unknown-image", "invalid-request", "unavailable"]),
    },
)
def training_curves(parts: Parts, who: Who, request: Request, id: TrainingId) -> Response:
    """Get the figure of a training as PNG: its curves, and the newest samples. It is drawn anew while it runs."""
    check_owner(parts.trainings, id, who)
    answer = picture(parts, request, training_figure(id).key, CHANGING)
    if answer is None:
        raise no_picture(parts.trainings.get(id), "figure yet")
    return answer


@router.get(
    "/v1/trainings/{id}/metrics",
    response_model=TrainingHistory,
    responses=responses(["unknown-training", "invalid-request", "unavailable"]),
)
def training_metrics(parts: Parts, who: Who, id: TrainingId) -> Response:
    """Get all that a training has measured so far, from its first iteration to the latest."""
    owned(parts.trainings, id, who)
    try:
        data = parts.blobs.get(training_history(id).key)
    except FileNotFoundError:
        data = b""
    return json_of(TrainingHistory.of(data))
