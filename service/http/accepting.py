"""The one way from a request to a queued job, and to its end: of the tasks' own addresses and of OpenAI's."""

from __future__ import annotations

import time

from starlette.concurrency import run_in_threadpool

from service.access.security import Caller
from service.contract.errors import ServiceError
from service.contract.jobs import JobRecord, JobRequest
from service.http.routes.common import check_webhook
from service.observe.process import context
from service.pictures.intake import Taken
from service.services import Services
from service.store.codec import announced
from service.store.events import Watch
from service.store.types import Idempotency


async def accept(
    parts: Services, who: Caller, id: str, body: JobRequest, idempotency: Idempotency | None
) -> tuple[JobRecord, bool]:
    """Check a request against its model, store it and queue it; gives the record and whether it is new."""
    files = body.gives_files
    if files and idempotency:
        # Before its pictures are looked for: the uploads of a job that was accepted may be gone.
        await run_in_threadpool(lambda: idempotency.hashes)  # long bodies are for a thread
        earlier = await parts.submissions.earlier(idempotency)
        if earlier is not None:
            return earlier, False
    card = parts.catalog.seen(body.model, who.sees_model)
    if card is None:
        card = await run_in_threadpool(parts.catalog.get, body.model, who.sees_model)
    params, warnings = body.resolve(card)
    check_webhook(parts, who, params.webhook)
    who.check_cost(params.cost(card))
    parts.room.check(params.output_bytes(card))
    taken = await parts.intake.take(id, params, card, who) if files else Taken()
    shown = params.with_pictures(taken.refs)
    record = JobRecord.new(shown, [*warnings, *taken.warnings], id, context(), taken.inputs)
    try:
        record, created = await parts.submissions.submit(
            record,
            priority=params.priority,
            queue=record.model,
            cost=params.cost(card),
            max_queue_seconds=params.max_queue_seconds,
            owner=who.owner,
            idempotency=idempotency,
            limits=who.limits(parts.settings.max_queued),
            bytes=params.output_bytes(card) + taken.restored_bytes,
            storage=parts.storage,
            message=parts.job_queue.message(id, params.priority),
        )
    except ServiceError:
        # Refused for sure. After any other error the job may have been accepted: then its pictures stay.
        if files:
            await parts.intake.discard(id)
        raise
    if files and not created:
        await parts.intake.discard(id)
    return record, created


async def ended(parts: Services, record: JobRecord, finished: Watch, seconds: float) -> JobRecord:
    """The record when it has finished, or as it is when the time is up."""
    deadline = time.monotonic() + seconds
    while not record.status.terminal:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        fields = await finished.wait(left)
        if fields is None:
            record = await run_in_threadpool(parts.jobs.get, record.id)
        else:
            record = announced(JobRecord, fields)
    return record
