"""One request of OpenAI's images API: its job is made, awaited or followed, and answered."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, final

import anyio
from fastapi import Request, Response
from redis.exceptions import RedisError
from sse_starlette import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from service.contract.errors import AccessError
from service.contract.jobs import JobRecord, JobRequest
from service.contract.records import Failure, Status
from service.http.accepting import ended
from service.http.authentication import Identify, name_of
from service.http.openai_images import answers
from service.http.openai_images.errors import answer_of, error_of
from service.http.openai_images.pictures import Encoder
from service.http.root import root
from service.http.routes.common import json_of
from service.pictures.places import job_image, job_preview
from service.services import Services
from service.store.events import START, Event, Watch, batches

log = logging.getLogger(__name__)

_ADDRESS_SECONDS = 3600
_REFUSED = {"diverged": 400, "queue-timeout": 503}
"""Statuses of failures that are not the server's own (500)."""


@final
@dataclass(frozen=True)
class Work:
    """A job in work, and how its images are to be answered.

    Args:
        parts: of the API.
        request: the HTTP request.
        encoder: size and format of the images.
        urls: answer with addresses.
        keep: let the job go on when its client leaves, who may come back for it by an Idempotency-Key.
    """

    parts: Services
    request: Request
    encoder: Encoder
    urls: bool
    keep: bool

    async def answered(self, record: JobRecord, finished: Watch) -> Response:
        """The answer once the job has ended; if the client leaves or the time is up, the job is cancelled."""
        seconds = self.parts.settings.openai_seconds
        end = asyncio.ensure_future(ended(self.parts, record, finished, seconds))
        left = asyncio.ensure_future(_left(self.request))
        try:
            await asyncio.wait({end, left}, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                record = end.result()
        finally:
            for future in (end, left):
                future.cancel()
        if record.status.terminal:
            return await run_in_threadpool(self._answer, record)
        await self.cancel(record.id)
        detail = f"the images of {record.id} were not ready within {seconds:g} s; ask for fewer images or steps, "
        detail += "stream them, or use POST /v1/generate and come back for them"
        return answer_of(503, "timeout", detail, {"x-should-retry": "false"})

    async def cancel(self, id: str) -> None:
        """Stop a job that nobody waits for; one that has ended stays as it is."""
        if self.keep:
            return
        try:
            await run_in_threadpool(self.parts.jobs.cancel, id)
        except RedisError as error:
            log.warning("%s was not cancelled: %s", id, error)

    def _answer(self, record: JobRecord) -> Response:
        if record.status is not Status.SUCCEEDED:
            status, code, message = failure_of(record)
            return answer_of(status, code, message, {"x-should-retry": "false"})
        shown = [self._entry(record, k) for k, output in enumerate(record.outputs) if output.url]
        answer = answers.ImagesAnswer(
            created=answers.created(record),
            data=shown,
            output_format=self.encoder.format,
            size=answers.size_of(record, self.encoder.size),
            model=record.model,
            job=record.links.self,
            warnings=record.warnings,
        )
        return json_of(answer)

    def _entry(self, record: JobRecord, k: int) -> answers.ImageEntry:
        output = record.outputs[k]
        file = {"url": self._address(output.url or "")} if self.urls else {"b64_json": self._image(record.id, k)}
        return answers.ImageEntry(
            **file, revised_prompt=answers.revised(record), seed=output.seed, energy=output.energy
        )

    def _address(self, url: str) -> str:
        """The whole address of an image, which needs no key for an hour."""
        here, sign = self.request.url, self.parts.signatures.signer(_ADDRESS_SECONDS)
        return f"{here.scheme}://{here.netloc}{root.get()}{sign(url) if sign else url}"

    def _image(self, id: str, k: int) -> str:
        return self.encoder.base64(self.parts.blobs.get(job_image(id, k).key))

    async def events(self, record: JobRecord, kind: str, partial_images: int, again: Identify) -> AsyncIterator[Any]:
        """The events of a stream: unfinished images, then the finished ones, or an error.

        Args:
            record: of the job.
            kind: what events are called: ``image_generation`` or ``image_edit``.
            partial_images: how many unfinished states to show.
            again: asked before each batch of events whether the caller may still have them.
        """
        steps, over = list[int](), False
        found = batches(self.parts.streams, self.parts.jobs.events_key(record.id), START)
        with self.parts.open_streams.hold(name_of(self.request.scope)):
            try:
                async for batch in found:
                    await again()
                    for event in batch:
                        if event.name == "preview" and (index := index_of(event, steps)) < partial_images:
                            for sent in await run_in_threadpool(self._partial, record.id, event, kind, index):
                                yield sent
                        over = over or event.last
                for sent in await run_in_threadpool(self._completed, record.id, kind):
                    yield sent
            except RedisError as error:
                log.warning("a stream of images broke off: %s", error)
                yield _wire("error", error_of(503, "unavailable", "the database does not answer"))
            except AccessError:
                log.info("a stream of images was ended: its key was revoked")
            finally:
                if not over:
                    with anyio.CancelScope(shield=True):  # a client that leaves ends this task
                        await self.cancel(record.id)

    def _partial(self, id: str, event: Event, kind: str, index: int) -> list[ServerSentEvent]:
        data = json.loads(event.data)
        try:
            strip = self.parts.blobs.get(job_preview(id, data["step"], data["rows"][0]).key)
        except FileNotFoundError:  # it is a convenience
            return []
        files = self.encoder.parts(strip, len(data["rows"]))
        common = self._common(f"{kind}.partial_image") | {"partial_image_index": index, "step": data["step"]}
        return [
            _wire(common["type"], {**common, "b64_json": file, "image_index": row})
            for row, file in zip(data["rows"], files, strict=True)
        ]

    def _completed(self, id: str, kind: str) -> list[ServerSentEvent]:
        record = self.parts.jobs.get(id)
        if record.status is not Status.SUCCEEDED:
            return [_wire("error", error_of(*failure_of(record)))]
        common = self._common(f"{kind}.completed") | {
            "created_at": answers.created(record),
            "size": answers.size_of(record, self.encoder.size),
            "usage": answers.USAGE,
            "model": record.model,
            "job": f"{root.get()}{record.links.self}",
            "warnings": record.warnings,
        }
        entries = [(k, self._entry(record, k)) for k, output in enumerate(record.outputs) if output.url]
        return [_wire(common["type"], {**common, **entry.model_dump(), "image_index": k}) for k, entry in entries]

    def _common(self, type: str) -> dict[str, Any]:
        size = "x".join(map(str, self.encoder.size)) if self.encoder.size else "auto"
        return {
            "type": type,
            "created_at": int(time.time()),
            "background": "opaque",
            "output_format": self.encoder.format,
            "quality": "auto",
            "size": size,
        }


def index_of(event: Event, steps: list[int]) -> int:
    """Which of the steps that are shown a preview is of; a step may come in several parts."""
    step = json.loads(event.data)["step"]
    if step not in steps:
        steps.append(step)
    return steps.index(step)


def with_previews(job: JobRequest, steps: int, partial_images: int) -> JobRequest:
    """The same job with so many previews before its end, from its start on, or as many as its steps allow."""
    if partial_images == 0:
        return job
    return job.model_copy(update={"preview_every": max(1, steps // partial_images)})


def failure_of(record: JobRecord) -> tuple[int, str, str]:
    """Status, code and message for a job that has not succeeded."""
    if record.status is Status.CANCELLED:
        return 400, "cancelled", f"the job was cancelled: {record.id}"
    error = record.error or Failure(kind="internal", detail="the job failed")
    return _REFUSED.get(error.kind, 500), error.kind.replace("-", "_"), error.detail


async def _left(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _wire(name: str, data: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(data=json.dumps(data), event=name)
