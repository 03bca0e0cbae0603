"""Job records: read, list, cancel, follow, and their pictures."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from pictures.encoding import MEDIA_TYPES, Format
from service.contract.jobs import JobRecord
from service.http.authentication import Again, Who
from service.http.negotiation import TYPES, form_of
from service.http.problems import responses
from service.http.results import results
from service.http.routes import links
from service.http.routes.common import (
    Cursor,
    JobId,
    LastEventId,
    Limit,
    Signed,
    StatusFilter,
    answer_with,
    check_owner,
    json_of,
    no_picture,
    owned,
    picture,
)
from service.http.routes.streams import event_stream
from service.pictures.places import (
    job_chain,
    job_extra,
    job_folder,
    job_image,
    job_preview,
    job_surface,
    shelf_key,
)
from service.services import Parts

router = APIRouter(tags=["jobs"])

Place = Annotated[int, Path(ge=0, le=9999, description="Place of the image among the outputs, from 0.", examples=[0])]

_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "The image."},
    304: {"description": "Your copy is current."},
}


class JobPage(BaseModel):
    """Jobs, newest first."""

    items: list[JobRecord] = Field(description="The jobs of this page.")
    next: str | None = Field(description="Send it as `cursor` for the next page; null at the end.")


@router.get(
    "/v1/jobs",
    response_model=JobPage,
    responses={200: {"links": links.JOBS}, **responses(["invalid-request", "unavailable"])},
)
def list_jobs(
    parts: Parts,
    who: Who,
    status: StatusFilter = None,
    cursor: Cursor = None,
    limit: Limit = 20,
    signed: Signed = None,
) -> Response:
    """List jobs, newest first."""
    items, following = parts.jobs.page(status, cursor, limit, who.listing)
    return json_of(JobPage(items=items, next=following), sign=parts.signatures.signer(signed))


@router.get(
    "/v1/jobs/{id}",
    response_model=JobRecord,
    responses={
        200: {"links": links.JOB, "content": {type: {} for form, type in TYPES.items() if form != "json"}},
        **responses(["unknown-job", "unknown-image", "invalid-request", "unavailable"]),
    },
)
def get_job(parts: Parts, who: Who, request: Request, id: JobId, signed: Signed = None) -> Response:
    """Get the record of a job: status, progress, and images once it has succeeded.

    With `Accept: image/png` (or `image/webp`, `image/jpeg`) the answer is the image itself, of a job of many a contact
    sheet; with `Accept: application/zip` an archive of all images, with the record.
    """
    record, form = owned(parts.jobs, id, who), form_of(request)
    if form == "json":
        answer = json_of(record, sign=parts.signatures.signer(signed))
    else:
        answer = results(parts, request, record, form)
    answer.headers["Vary"] = "Accept"
    return answer


@router.delete(
    "/v1/jobs/{id}",
    status_code=204,
    responses={
        204: {"description": "The job is deleted."},
        **responses(["unknown-job", "not-ended", "invalid-request", "unavailable"]),
    },
)
def delete_job(parts: Parts, who: Who, id: JobId) -> Response:
    """Delete a job that has ended, with its images, before its time is over."""
    check_owner(parts.jobs, id, who)
    deleted = parts.jobs.delete(id)
    # If this is not done to its end, a worker's next sweep does it.
    for prefix in (job_folder(id), job_chain(id)):
        parts.blobs.delete_prefix(prefix)
    parts.jobs.forget([deleted])
    parts.shelf.sweep()
    return Response(status_code=204)


@router.post(
    "/v1/jobs/{id}/cancel",
    response_model=JobRecord,
    responses={200: {"links": links.JOB}, **responses(["unknown-job", "invalid-request", "unavailable"])},
)
def cancel_job(parts: Parts, who: Who, id: JobId) -> Response:
    """Cancel a job. A queued one is cancelled at once, a running one stops between two steps.

    A finished job stays as it is, so the request can be repeated safely.
    """
    check_owner(parts.jobs, id, who)
    return json_of(parts.jobs.cancel(id))


@router.get(
    "/v1/jobs/{id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The events."},
        204: {"description": "The job has finished and you have all its events."},
        **responses(["unknown-job", "invalid-request", "too-many-streams", "unavailable"]),
    },
)
async def job_events(
    parts: Parts,
    who: Who,
    request: Request,
    again: Again,
    id: JobId,
    last_event_id: LastEventId = None,
    signed: Signed = None,
) -> Response:
    """Follow a job by server-sent events: `status`, `progress` and `preview`, each with JSON data.

    The stream ends after the terminal status, and resumes after Last-Event-ID. If it is lost, read the record.
    """
    return await event_stream(parts, request, parts.jobs, id, who, again, last_event_id, signed)


@router.get(
    "/v1/jobs/{id}/images/{k}",
    response_class=Response,
    responses={
        200: {"content": {type: {} for type in MEDIA_TYPES.values()}, "description": "The image."},
        304: {"description": "Your copy is current."},
        **responses(["unknown-job", "unknown-image", "invalid-request", "unavailable"]),
    },
)
def job_output(
    parts: Parts,
    who: Who,
    request: Request,
    id: JobId,
    k: Place,
    format: Annotated[Format, Query(description="Of the answer; webp keeps every pixel, jpeg does not.")] = "png",
) -> Response:
    """Get one image of a job. As PNG it holds the request that makes it again, as the text `coopserve`."""
    check_owner(parts.jobs, id, who)
    answer = picture(parts, request, job_image(id, k).key, format=format)
    if answer is None:
        raise no_picture(parts.jobs.get(id), f"image {k}")
    return answer


@router.get(
    "/v1/jobs/{id}/images/{k}/{name}",
    response_class=Response,
    responses={**_PNG, **responses(["unknown-job", "unknown-image", "invalid-request", "unavailable"])},
)
def job_extra_picture(
    parts: Parts,
    who: Who,
    request: Request,
    id: JobId,
    k: Place,
    name: Annotated[
        str,
        Path(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="Name of the picture in `extras`.", examples=["animation"]),
    ],
) -> Response:
    """Get a further picture of an output, such as an animation, as PNG; its address is in the output's `extras`."""
    check_owner(parts.jobs, id, who)
    answer = picture(parts, request, job_extra(id, k, name).key)
    if answer is None:
        raise no_picture(parts.jobs.get(id), f"picture {name} of image {k}")
    return answer


@router.get(
    "/v1/jobs/{id}/surfaces/{k}",
    response_class=Response,
    responses={
        200: {"content": {"model/obj": {}}, "description": "The surface, a closed mesh."},
        304: {"description": "Your copy is current."},
        **responses(["unknown-job", "unknown-image", "invalid-request", "unavailable"]),
    },
)
def job_output_surface(parts: Parts, who: Who, request: Request, id: JobId, k: Place) -> Response:
    """Get the surface of an output as an OBJ file; its address is in the output's `extras`."""
    check_owner(parts.jobs, id, who)
    try:
        data = parts.blobs.get(job_surface(id, k).key)
    except (FileNotFoundError, ValueError):  # ValueError: an id that no key could hold
        raise no_picture(parts.jobs.get(id), f"surface {k}") from None
    return answer_with(request, data, "model/obj", name=f"{id}-{k}.obj")


@router.get(
    "/v1/jobs/{id}/inputs/{name}",
    response_class=Response,
    responses={**_PNG, **responses(["unknown-job", "unknown-image", "invalid-request", "unavailable"])},
)
def job_input_picture(
    parts: Parts,
    who: Who,
    request: Request,
    id: JobId,
    name: Annotated[
        str,
        Path(
            pattern=r"^[a-z][a-z0-9_.]{0,63}$",
            description="The field of the request that held it; in a list, also its place from 0.",
            examples=["image", "images.0"],
        ),
    ],
) -> Response:
    """Get a picture that the request gave, as PNG, as the model takes it; a mask is 0 and 255 (fill in)."""
    record = owned(parts.jobs, id, who)
    kept = record.given().pictures.get(name)
    answer = picture(parts, request, shelf_key(kept)) if kept else None
    if answer is None:
        raise no_picture(record, f"input {name}")
    return answer


@router.get(
    "/v1/jobs/{id}/previews/{step}",
    response_class=Response,
    responses={**_PNG, **responses(["unknown-job", "unknown-image", "invalid-request", "unavailable"])},
)
def job_preview_image(
    parts: Parts,
    who: Who,
    request: Request,
    id: JobId,
    step: Annotated[int, Path(ge=0, le=10**9, description="The step that the preview event names.", examples=[5])],
    row: Annotated[
        int, Query(ge=0, le=9999, description="The first image that it shows: where not all come to a step at once.")
    ] = 0,
) -> Response:
    """Get the unfinished images of a job after a step, as one PNG; its address is in the `preview` event."""
    check_owner(parts.jobs, id, who)
    answer = picture(parts, request, job_preview(id, step, row).key)
    if answer is None:
        raise no_picture(parts.jobs.get(id), f"preview of step {step}")
    return answer
