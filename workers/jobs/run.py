"""One claimed job: its pictures read, its task driven through the engine, its images stored."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, final

import torch

from models.core.devices import rounds_inputs
from models.core.loop import RowsError, Task
from models.core.output import Output as TaskOutput
from pictures.budget import ByteBudget
from service.contract.errors import ServiceError, StaleAttemptError
from service.contract.jobs import JobRecord, Output
from service.contract.records import Failure, Status
from service.pictures.blobs import Blobs
from service.pictures.places import job_folder, job_preview
from service.store.store import RecordStore
from workers.chains.chain import Chain, ChainError, OtherWeightsError
from workers.engine.engine import Engine
from workers.engine.tickets import CancelledError, Preview, StoppedError
from workers.jobs.inputs import prepare
from workers.jobs.outputs import losses, store_outputs
from workers.jobs.pictures import png, strip
from workers.jobs.tally import Tally
from workers.jobs.work import JobWork
from workers.residency.residency import Residency, UnusableModelError

log = logging.getLogger(__name__)

NOT_EXACT = "on this device an image's last bits may depend on the images beside it (differences up to 1e-5)"

ROUNDED = "computed with TF32, as the worker is set up: values differ by up to 1e-3 from those in full precision"

OTHER_WEIGHTS = "the model's files were replaced before the job had ended: it was started again with the new ones"

NO_MEMORY = "the worker's device has no memory for one of its images alone; try again later, or use a smaller model"

STARTED_AGAIN = "a worker was lost, and what it had saved could not be used: the job was started again"


@final
class Runner:
    """Runs jobs. Safe to use from many threads.

    Args:
        store: the records of jobs, for previews.
        blobs: where pictures come from and images go.
        residency: the models.
        engine: what advances their rows.
        budget: memory for results that are brought back to size.
    """

    def __init__(
        self,
        store: RecordStore[JobRecord],
        blobs: Blobs,
        residency: Residency,
        engine: Engine,
        budget: ByteBudget,
    ) -> None:
        self._store, self._blobs, self._residency, self._engine = store, blobs, residency, engine
        self._budget = budget

    def outcome(self, record: JobRecord, work: JobWork) -> tuple[Status, dict[str, Any]]:
        """Run the job: its end, and the fields of the record that go with it.

        Raises:
            StoppedError: the engine was stopped before the job's end; the error holds the chain.
            UnusableModelError: this worker can't load the model; another one may.
        """
        tally = Tally(self._blobs)
        status, fields = self._end(record, work, tally)
        stored = tally.bytes if record.attempt == 1 else self._left(record, tally)
        return status, {**fields, "stored_bytes": stored}

    def _left(self, record: JobRecord, tally: Tally) -> int:
        """Bytes of all that is stored of a job, also by attempts that were lost."""
        try:
            return self._blobs.size(job_folder(record.id))
        except OSError as error:
            log.warning("what %s has stored can't be counted: %s", record.id, error)
            return tally.bytes

    def _end(self, record: JobRecord, work: JobWork, tally: Tally) -> tuple[Status, dict[str, Any]]:
        try:
            outputs, warnings = self._images(record, work, tally)
        except CancelledError:
            return Status.CANCELLED, {}
        except RowsError as error:
            return Status.FAILED, {"error": Failure(kind="diverged", detail=str(error))}
        except ServiceError as error:
            return Status.FAILED, {"error": Failure(kind=error.kind, detail=error.detail)}
        except OSError as error:
            log.exception("job %s failed", record.id)
            reason = error.strerror or type(error).__name__
            detail = f"its images could not be stored or read ({reason}); try again later"
            return Status.FAILED, {"error": Failure(kind="storage", detail=detail)}
        except (StoppedError, UnusableModelError):
            raise
        except torch.OutOfMemoryError as error:
            log.warning("job %s does not fit: %s", record.id, error)
            return Status.FAILED, {"error": Failure(kind="memory", detail=NO_MEMORY)}
        except Exception as error:
            self._engine.examine(error)
            log.exception("job %s failed", record.id)
            detail = "an unexpected error, which the worker has logged; report it with the id of the job"
            return Status.FAILED, {"error": Failure(kind="internal", detail=detail)}
        fields: dict[str, Any] = {"outputs": outputs, "warnings": [*record.warnings, *warnings]}
        if progress := work.progress():  # what the heart has not told yet: the last step
            fields["progress"] = progress
        return Status.SUCCEEDED, fields

    def _images(self, record: JobRecord, work: JobWork, tally: Tally) -> tuple[list[Output], list[str]]:
        request = record.request()
        with self._residency.use(record.model) as resident:
            prepared = prepare(record.given(), request, resident.card, self._blobs, self._budget)
            task = partial(resident.model.start, record.task, prepared.job)
            result, warnings = self._drive(record, task, work, tally, resident.digest)
            warnings += [] if resident.exact else [NOT_EXACT]
            warnings += [ROUNDED] if rounds_inputs(self._engine.device) else []
        return store_outputs(record.id, request, result, prepared, tally), [
            *result.warnings,
            *losses(result),
            *warnings,
        ]

    def _drive(
        self, record: JobRecord, task: Callable[[], Task[TaskOutput]], work: JobWork, tally: Tally, weights: str
    ) -> tuple[TaskOutput, list[str]]:
        """Run the task, from where an earlier attempt has saved it if that is possible; warnings come with the result.

        Args:
            record: the job.
            task: begins the task; called again if the saved chain does not fit.
            work: what the heart knows of the job.
            tally: where previews go.
            weights: the digest of the model's weights.
        """
        try:
            chain = work.keeper.load(weights)
            return self._follow(record, task(), chain, work, tally), []
        except OtherWeightsError:
            why = OTHER_WEIGHTS
        except ChainError as error:
            log.warning("the chain of %s can't be used: %s", record.id, error)
            why = STARTED_AGAIN
        return self._follow(record, task(), None, work, tally), [why]

    def _follow(
        self, record: JobRecord, task: Task[TaskOutput], chain: Chain | None, work: JobWork, tally: Tally
    ) -> TaskOutput:
        request = record.request()
        ticket = self._engine.submit(
            task,
            priority=request.priority,
            preview_every=request.preview_every,
            resume=chain,
            keep=work.keeper.save,
            owner=record.owner,
        )
        work.follow(ticket)
        for preview in ticket.previews():
            self._show(record, preview, tally)
        result: TaskOutput = ticket.result()
        return result

    def _show(self, record: JobRecord, preview: Preview, tally: Tally) -> None:
        """Publish a preview. It is a convenience: if it can't be stored, the job goes on."""
        try:
            place = job_preview(record.id, preview.step, preview.rows[0])
            tally.put(place.key, png(strip(preview.images.nan_to_num(-1.0))))
            data = {
                "step": preview.step,
                "rows": list(preview.rows),
                "url": place.url,
                "energies": list(preview.energies),
            }
            self._store.emit(record.id, record.attempt, "preview", data)
        except StaleAttemptError:
            return  # the heart will notice, too
        except Exception as error:
            log.warning("no preview of %s: %s", record.id, error)
