"""OpenAI's images API: new images from a prompt, and images made from an image."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from service.access.security import Caller
from service.contract.cards import ModelCard
from service.contract.errors import UnprocessableError, UnsupportedMediaTypeError, invalid
from service.contract.jobs import TASKS, JobRecord, JobRequest
from service.http.accepting import accept
from service.http.authentication import Again, Identify, Who, name_of
from service.http.openai_images.answers import ImagesAnswer
from service.http.openai_images.errors import documented
from service.http.openai_images.forms import content_of
from service.http.openai_images.pictures import Encoder, is_transparent, mask_uri
from service.http.openai_images.requests import GenerationBody, ImagesBody, edit_of
from service.http.openai_images.work import Work, with_previews
from service.http.routes.common import IdempotencyKey
from service.http.strict import JsonRoute, StrictJsonRequest
from service.services import Parts, Services
from service.store.types import Idempotency

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"

_KINDS = (
    *("malformed-json", "malformed-request", "invalid-request", "unsupported-task", "unavailable-model"),
    *("idempotency-conflict", "unauthenticated", "forbidden", "foreign-site", "unknown-model", "compressed-body"),
    *("request-timeout", "body-too-large", "unsupported-media-type", "rate-limited", "queue-full", "too-many-jobs"),
    *("over-budget", "too-many-streams", "too-much-stored", "storage-full", "unavailable", "internal"),
)
_PICTURE_KINDS = ("unknown-image", "image-too-large", "invalid-image")
_ANSWERS: dict[str, Any] = {
    "model": ImagesAnswer,
    "content": {"text/event-stream": {"schema": {"description": "Events whose data are JSON with a `type`."}}},
    "description": "The images; with `stream` events: `*.partial_image`, then `*.completed` an image, or `error`.",
}
_EDITABLE = [name for name, task in TASKS.items() if "image" in task.pictures and name not in ("score", "embed")]
FILE = {"type": "string", "format": "binary"}
FORM = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {**FILE, "description": "The picture: PNG, JPEG or WebP."},
        "mask": {**FILE, "description": "Transparent = fill in; without transparency: white = fill in."},
        **{
            name: {"type": "string", "description": field.description}
            for name, field in ImagesBody.model_fields.items()
            if name in ("model", "prompt", "n", "size", "response_format", "output_format", "stream", "partial_images")
        },
    },
}
"""Forms of edits as the document has them; every other field of :class:`.EditBody` may be there too."""
_MOST_FILES, _MOST_FIELDS = 17, 100

router = APIRouter(tags=["openai"], route_class=JsonRoute)
edits = APIRouter(tags=["openai"])


@router.post(GENERATIONS, response_model=ImagesAnswer, responses={200: _ANSWERS, **documented(_KINDS)})
async def openai_generations(
    parts: Parts,
    who: Who,
    again: Again,
    request: Request,
    body: Annotated[
        GenerationBody,
        Body(openapi_examples={"default": {"summary": "Runs as it stands", "value": GenerationBody.example}}),
    ],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Make new images, as OpenAI's images API has it: programs that know that API need the address of this one alone.

    The prompt names a class. Fields of `POST /v1/generate`, such as `seed` and `steps`, may be added.
    """
    card = await _card(parts, who, body.model, "generate")
    job = body.job("generate", card)
    return await _answered(parts, who, again, request, body, job, card, "image_generation", idempotency_key)


@edits.post(
    EDITS,
    response_model=ImagesAnswer,
    responses={200: _ANSWERS, **documented([*_KINDS, *_PICTURE_KINDS])},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/EditBody"}},
                "multipart/form-data": {"schema": FORM},
            },
        }
    },
)
async def openai_edits(
    parts: Parts, who: Who, again: Again, request: Request, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make images from an image, as OpenAI's images API has it: filled in where it is hidden, or else translated.

    As JSON with data URIs or ids of pictures, or as a form with the files `image` (or `image[]`) and `mask`. Where the
    mask is transparent, the picture is filled in (`inpaint`); without a mask, where the picture itself is transparent;
    else it is translated (`translate`). `task` names another task that takes an `image`, and its fields, such as `seed`
    and `steps`, may be added.
    """
    body = edit_of(await _content(request))
    given = {"image": body.picture()}
    mask = body.mask_ref()
    card = await _card(parts, who, body.model) if body.model is not None else None
    task = body.task or await _task(parts, who, card, given["image"], masked=mask is not None)
    if task not in _EDITABLE:
        raise invalid("task", f"there is no task {task!r} that takes an image; choose one of: {', '.join(_EDITABLE)}")
    if mask is not None:
        if "mask" not in TASKS[task].pictures:
            raise invalid("mask", f"{task} takes no mask; leave it out")
        given["mask"] = await run_in_threadpool(mask_uri, await parts.intake.look("mask", mask, who))
    card = card or await _card(parts, who, None, task)
    job = body.job(task, card, **given)
    return await _answered(parts, who, again, request, body, job, card, "image_edit", idempotency_key)


async def _content(request: Request) -> Any:
    """The fields of an edit's body."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return await StrictJsonRequest(request.scope, request.receive).json()
    if kind != "multipart/form-data":
        raise UnsupportedMediaTypeError(kind)
    async with request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS) as form:
        return await content_of(form)


async def _card(parts: Services, who: Caller, model: str | None, task: str = "") -> ModelCard:
    """The card of the model that is named, or of the first one that can do the task."""
    if model is not None:
        return await run_in_threadpool(parts.catalog.get, model, who.sees_model)
    models = await run_in_threadpool(parts.catalog.list, who.sees_model)
    cards = [model.card for model in models if model.card is not None and model.card.surface is None]
    able = [card for card in cards if task in card.tasks]
    if not able:
        raise UnprocessableError("unsupported-task", f"no model of this server can do {task!r}")
    return able[0]


async def _task(parts: Services, who: Caller, card: ModelCard | None, picture: str, *, masked: bool) -> str:
    """What an edit does: it fills in what is hidden, or else makes another picture of the picture."""
    can = {"inpaint", "translate"} & card.tasks.keys() if card is not None else {"inpaint", "translate"}
    if len(can) == 1 and not masked:
        return can.pop()
    hides = masked or is_transparent(await parts.intake.look("image", picture, who))
    return "inpaint" if hides else "translate"


async def _answered(
    parts: Services,
    who: Caller,
    again: Identify,
    request: Request,
    body: ImagesBody,
    job: JobRequest,
    card: ModelCard,
    kind: str,
    key: str | None,
) -> Response:
    """Queue the job of a request, and answer with its images when they are there, or as they come."""
    params, _ = job.resolve(card)
    encoder = _encoder(parts, body, params, card)
    work = Work(parts, request, encoder, urls=body.response_format == "url", keep=key is not None)
    if body.stream:
        parts.open_streams.check(name_of(request.scope))
        job = with_previews(job, params.shown_steps(card), body.partial_images or 0)
    id = JobRecord.new_id()
    idempotency = Idempotency(key, job, who.owner) if key else None
    with parts.finished.watch(id) as finished:
        record, new = await accept(parts, who, id, job, idempotency)
        if body.stream:
            return EventSourceResponse(work.events(record, kind, body.partial_images or 0, again))
        if new:
            return await work.answered(record, finished)
    with parts.finished.watch(record.id) as finished:
        return await work.answered(await run_in_threadpool(parts.jobs.get, record.id), finished)


def _encoder(parts: Services, body: ImagesBody, params: JobRequest, card: ModelCard) -> Encoder:
    size = body.scaled_to(card)
    if body.response_format == "url" and (size is not None or body.output_compression is not None):
        raise invalid("response_format", "addresses lead to files of the model's size; leave size and compression out")
    if size is not None and getattr(params, "restore", False):
        raise invalid("size", "restore gives the picture's own size; leave size out")
    most = parts.settings.max_restored_pixels
    if size is not None and params.rows * size[0] * size[1] > most:
        raise invalid("size", f"all images of an answer have at most {most} pixels; ask for fewer or smaller ones")
    return Encoder(body.output_format or "png", body.output_compression, size)
