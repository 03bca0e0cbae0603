"""The inference worker: takes one job's id, drives its task through the engine, and commits the images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from models.checkpoints import CheckpointError
from models.loop import RowsError
from models.systems.base import Output as TaskOutput
from service.blobs import Blobs
from service.errors import ServiceError, StaleAttemptError
from service.jobs import JobRecord, Output
from service.places import job_image, job_preview
from service.records import Failure, Progress, Status
from service.store import RecordStore
from workers.engine import Engine
from workers.heart import Heart
from workers.pictures import png, strip
from workers.residency import Residency
from workers.tickets import CancelledError, Preview, Ticket

log = logging.getLogger(__name__)

NOT_EXACT = "on this device an image's last bits may depend on the images beside it (differences up to 1e-5)"


class _Work:
    """A job in work, as the heart sees it."""

    def __init__(self) -> None:
        self.ticket: Ticket[TaskOutput] | None = None
        self.lost = False
        self._cancelled = False
        self._said: Progress | None = None

    def follow(self, ticket: Ticket[TaskOutput]) -> None:
        self.ticket = ticket
        if self._cancelled:
            ticket.cancel()

    def progress(self) -> Progress | None:
        ticket = self.ticket
        if ticket is None:
            return None
        progress = Progress(stage=ticket.stage, step=min(ticket.step, ticket.steps), steps=ticket.steps)
        if progress == self._said:
            return None
        self._said = progress
        return progress

    def metrics(self) -> Mapping[str, float] | None:
        return None

    def cancel(self) -> None:
        self._cancelled = True
        if self.ticket:
            self.ticket.cancel()

    def lose(self) -> None:
        self.lost = True
        self.cancel()


class InferenceWorker:
    """Runs jobs; every method may be called from many threads.

    Args:
        store: the records of jobs.
        blobs: where images go.
        residency: the models.
        engine: what advances their rows; already started.
        heart: keeps the leases alive; already started.
        worker: this worker's id.
        lease_seconds: how long a claim holds without a heartbeat.
    """

    def __init__(
        self,
        store: RecordStore[JobRecord],
        blobs: Blobs,
        residency: Residency,
        engine: Engine,
        heart: Heart,
        worker: str,
        lease_seconds: float,
    ) -> None:
        self._store, self._blobs, self._residency = store, blobs, residency
        self._engine, self._heart = engine, heart
        self._worker, self._lease_seconds = worker, lease_seconds

    def run(self, id: str) -> None:
        """Run the job if nobody else has it; its record tells how it ended. A message for a taken job is dropped."""
        record = self._store.claim(id, self._worker, self._lease_seconds)
        if record is None:
            log.info("dropped the message for %s: finished, cancelled or taken", id)
            return
        work = _Work()
        with self._heart.hold(record, work):
            status, fields = self._outcome(record, work)
            if work.lost:
                return
            try:
                self._store.finish(id, record.attempt, status, **fields)
            except StaleAttemptError as error:
                log.warning("not committed: %s", error)

    def _outcome(self, record: JobRecord, work: _Work) -> tuple[Status, dict[str, Any]]:
        """How the job ends: a status, and the fields of the record that go with it."""
        try:
            outputs, warnings = self._images(record, work)
        except CancelledError:
            return Status.CANCELLED, {}
        except RowsError as error:
            return Status.FAILED, {"error": Failure(kind="diverged", detail=str(error))}
        except CheckpointError as error:
            detail = f"{record.model} can't be loaded: {error}"
            return Status.FAILED, {"error": Failure(kind="unusable-model", detail=detail)}
        except ServiceError as error:
            return Status.FAILED, {"error": Failure(kind=error.kind, detail=error.detail)}
        except Exception:
            log.exception("job %s failed", record.id)
            detail = "an unexpected error, which the worker has logged; report it with the id of the job"
            return Status.FAILED, {"error": Failure(kind="internal", detail=detail)}
        fields: dict[str, Any] = {"outputs": outputs, "warnings": [*record.warnings, *warnings]}
        if progress := work.progress():  # what the heart has not told yet: the last step
            fields["progress"] = progress
        return Status.SUCCEEDED, fields

    def _images(self, record: JobRecord, work: _Work) -> tuple[list[Output], list[str]]:
        request = record.request()
        with self._residency.use(record.model) as resident:
            task = resident.model.tasks[record.task](request)
            ticket = self._engine.submit(task, priority=request.priority, preview_every=request.preview_every)
            work.follow(ticket)
            for preview in ticket.previews():
                self._show(record, preview)
            result = ticket.result()
            warnings = [] if resident.exact else [NOT_EXACT]
        return self._store_images(record, result), warnings

    def _store_images(self, record: JobRecord, result: TaskOutput) -> list[Output]:
        images = result.images.detach().cpu()
        outputs = []
        for k, (image, energy, seed) in enumerate(zip(images, result.energy.tolist(), result.seeds, strict=True)):
            place = job_image(record.id, k)
            self._blobs.put(place.key, png(image))
            outputs.append(
                Output(url=place.url, width=image.shape[2], height=image.shape[1], seed=seed, energy=energy, extras={})
            )
        return outputs

    def _show(self, record: JobRecord, preview: Preview) -> None:
        """Publish a preview. It is a convenience: if it can't be stored, the job goes on."""
        try:
            place = job_preview(record.id, preview.step)
            self._blobs.put(place.key, png(strip(preview.images)))
            data = {"step": preview.step, "rows": list(preview.rows), "url": place.url}
            self._store.emit(record.id, record.attempt, "preview", data)
        except StaleAttemptError:
            return  # the heart will notice, too
        except Exception as error:
            log.warning("no preview of %s: %s", record.id, error)
