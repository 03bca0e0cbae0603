"""Job records: read, list, cancel, follow, and their pictures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from service.jobs import JobRecord
from service.places import job_image, job_preview
from service.problems import responses
from service.routes.common import (
    Cursor,
    JobId,
    LastEventId,
    Limit,
    StatusFilter,
    event_stream,
    json_of,
    no_picture,
    picture,
)
from service.services import Parts

router = APIRouter(tags=["jobs"])

_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "The image."},
    304: {"description": "You have it already."},
}


class JobPage(BaseModel):
    """Jobs, newest first."""

    items: list[JobRecord] = Field(description="The jobs of this page.")
    next: str | None = Field(description="Send it as `cursor` for the next page; null at the end.")


@router.get("/v1/jobs", response_model=JobPage, responses=responses(["invalid-request", "unavailable"]))
def list_jobs(parts: Parts, status: StatusFilter = None, cursor: Cursor = None, limit: Limit = 20) -> Response:
    """List jobs, newest first."""
    items, following = parts.jobs.page(status, cursor, limit)
    return json_of(JobPage(items=items, next=following))


@router.get(
    "/v1/jobs/{id}", response_model=JobRecord, responses=responses(["unknown-job", "invalid-request", "unavailable"])
)
def get_job(parts: Parts, id: JobId) -> Response:
    """Get the record of a job: its status, progress, and images once it has succeeded."""
    return json_of(parts.jobs.get(id))


@router.post(
    "/v1/jobs/{id}/cancel",
    response_model=JobRecord,
    responses=responses(["unknown-job", "invalid-request", "unavailable"]),
)
def cancel_job(parts: Parts, id: JobId) -> Response:
    """Cancel a job. A queued one is cancelled at once, a running one stops between two steps.

    A finished job stays as it is, so the request may be repeated.
    """
    return json_of(parts.jobs.cancel(id))


@router.get(
    "/v1/jobs/{id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The events."},
        204: {"description": "The job has finished and you have all its events."},
        **responses(["unknown-job", "invalid-request", "unavailable"]),
    },
)
async def job_events(parts: Parts, id: JobId, last_event_id: LastEventId = None) -> Response:
    """Follow a job by server-sent events: `status`, `progress` and `preview`, each with JSON data.

    The stream ends after the terminal status, and resumes after Last-Event-ID. It is a convenience: the record is
    the truth.
    """
    return await event_stream(parts, parts.jobs, id, last_event_id)


@router.get(
    "/v1/jobs/{id}/images/{k}",
    response_class=Response,
    responses={**_PNG, **responses(["unknown-job", "unknown-image", "invalid-request", "unavailable"])},
)
def job_output(
    parts: Parts,
    request: Request,
    id: JobId,
    k: Annotated[int, Path(ge=0, le=9999, description="Place of the image among the outputs, from 0.", examples=[0])],
) -> Response:
    """Get one image of a job as PNG."""
    answer = picture(parts, request, job_image(id, k))
    if answer is None:
        raise no_picture(parts.jobs.get(id), f"image {k}")
    return answer


@router.get(
    "/v1/jobs/{id}/previews/{step}",
    response_class=Response,
    responses={**_PNG, **responses(["unknown-job", "unknown-image", "invalid-request", "unavailable"])},
)
def job_preview_image(
    parts: Parts,
    request: Request,
    id: JobId,
    step: Annotated[int, Path(ge=0, le=10**9, description="The step that the preview event names.", examples=[5])],
) -> Response:
    """Get the unfinished images of a job after a step, as one PNG; `preview` events carry the address."""
    answer = picture(parts, request, job_preview(id, step))
    if answer is None:
        raise no_picture(parts.jobs.get(id), f"preview of step {step}")
    return answer
