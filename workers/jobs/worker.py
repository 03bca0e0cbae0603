"""The inference worker: takes the next job, drives its task through the engine, and commits the images."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from redis import RedisError

from models.checkpoints import CheckpointError
from models.core.loop import RowsError, Task
from models.core.output import Output as TaskOutput
from service.contract.errors import ServiceError, StaleAttemptError
from service.contract.jobs import JobRecord, Output
from service.contract.records import Failure, Status
from service.pictures.blobs import Blobs
from service.pictures.places import job_preview
from service.store.store import RecordStore
from service.store.types import Claim, Queued
from workers.chains.chain import Chain, ChainError
from workers.chains.keeper import Keeper
from workers.engine.engine import Engine
from workers.engine.tickets import CancelledError, Preview, StoppedError
from workers.jobs.inputs import prepare
from workers.jobs.outputs import store_outputs
from workers.jobs.pictures import png, strip
from workers.jobs.work import JobWork
from workers.residency.residency import Residency
from workers.upkeep.heart import Heart
from workers.upkeep.patience import patiently

log = logging.getLogger(__name__)

NOT_EXACT = "on this device an image's last bits may depend on the images beside it (differences up to 1e-5)"

STARTED_AGAIN = "a worker was lost, and what it had saved could not be used: the job was started again"

FINISH_SHARE = 0.25
"""For this part of the time that a worker has to stop, jobs may still finish."""


class InferenceWorker:
    """Runs jobs; every method may be called from many threads.

    Args:
        store: the records of jobs.
        blobs: where images go.
        residency: the models.
        engine: what advances their rows; already started.
        heart: keeps the leases alive; already started.
        send: puts a message for a job on the queue.
        places: how many jobs it holds at most: the threads that call :meth:`run`. Of one model it takes half of them.
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
        send: Callable[[Queued], None],
        places: int,
        worker: str,
        lease_seconds: float,
    ) -> None:
        self._store, self._blobs, self._residency = store, blobs, residency
        self._engine, self._heart, self._send, self._places = engine, heart, send, places
        self._claim = Claim(worker, lease_seconds, share=max(1, places // 2))
        self._draining = threading.Event()

    @property
    def draining(self) -> bool:
        """True once it takes no more jobs: it was told to stop, or its engine has ended."""
        return self._draining.is_set() or not self._engine.is_alive()

    def waiting(self) -> list[Queued]:
        """Queued jobs that it has room for."""
        free = 0 if self.draining else self._places - self._heart.active
        return self._store.waiting(free, self._claim.worker, self._claim.share) if free > 0 else []

    def run(self) -> None:
        """Run jobs as long as there are any that it has room for; their records tell how they ended."""
        record = self._next()
        while record is not None:
            record = self._run(record)

    def drain(self, seconds: float) -> None:
        """Take no more jobs; let those that are nearly done finish, and hand the others back. Returns at once.

        Args:
            seconds: how much time there is.
        """
        self._draining.set()
        threading.Thread(target=self._drain, args=[seconds * FINISH_SHARE], name="drain", daemon=True).start()

    def _drain(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._heart.active and time.monotonic() < end:
            time.sleep(0.02)
        self._engine.stop()

    def _next(self) -> JobRecord | None:
        if self.draining:
            return None
        try:
            return self._store.claim_next(self._claim)
        except RedisError as error:  # the job is still queued, and a sweep sends it again
            log.warning("no job taken: %s", error)
            return None

    def _run(self, record: JobRecord) -> JobRecord | None:
        """Run a job; gives the next one, if there is one and it is taken in the round trip that commits this one."""
        keeper = Keeper(self._store, self._blobs, record)
        work = JobWork(keeper)
        with self._heart.hold(record, work):
            try:
                status, fields = self._outcome(record, work)
            except StoppedError as stopped:
                self._hand_back(record, keeper, stopped.chain)
                return None
            if work.lost:
                return self._next()
            try:
                following = self._commit(record, status, fields)
            except (StaleAttemptError, RedisError) as error:  # it is another attempt's, or will be after its lease
                log.warning("not committed: %s", error)
                return self._next()
        keeper.drop()
        return following

    def _hand_back(self, record: JobRecord, keeper: Keeper, chain: Chain | None) -> None:
        """Queue the job again, with its chain where it is now."""
        if chain is not None:
            keeper.save(chain)
        keeper.close()
        self._release(record)

    def _release(self, record: JobRecord) -> None:
        """Queue a job again."""
        try:
            self._store.release(record.id, record.attempt)
            self._send(Queued(record.id, record.params["priority"]))
        except (StaleAttemptError, RedisError) as error:
            log.warning("%s was not handed back, its lease will run out: %s", record.id, error)

    def _commit(self, record: JobRecord, status: Status, fields: Mapping[str, Any]) -> JobRecord | None:
        """Write the job's end, and take the next job, in one round trip unless the store is away for a while.

        Raises:
            StaleAttemptError: another attempt has the job.
            RedisError: the store does not answer at all.
        """

        def finish() -> JobRecord | None:
            following = None if self.draining else self._claim
            return self._store.finish(record.id, record.attempt, status, following, **fields)

        return patiently(finish)

    def _outcome(self, record: JobRecord, work: JobWork) -> tuple[Status, dict[str, Any]]:
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
        except OSError as error:
            log.exception("job %s failed", record.id)
            reason = error.strerror or type(error).__name__
            detail = f"its images could not be stored or read ({reason}); try again later"
            return Status.FAILED, {"error": Failure(kind="storage", detail=detail)}
        except StoppedError:
            raise
        except Exception:
            log.exception("job %s failed", record.id)
            detail = "an unexpected error, which the worker has logged; report it with the id of the job"
            return Status.FAILED, {"error": Failure(kind="internal", detail=detail)}
        fields: dict[str, Any] = {"outputs": outputs, "warnings": [*record.warnings, *warnings]}
        if progress := work.progress():  # what the heart has not told yet: the last step
            fields["progress"] = progress
        return Status.SUCCEEDED, fields

    def _images(self, record: JobRecord, work: JobWork) -> tuple[list[Output], list[str]]:
        request = record.request()
        with self._residency.use(record.model) as resident:
            prepared = prepare(record.id, request, resident.card, self._blobs)
            task = partial(resident.model.start, record.task, prepared.job)
            result, warnings = self._drive(record, task, work)
            warnings += [] if resident.exact else [NOT_EXACT]
        return store_outputs(record.id, result, prepared, self._blobs), [*result.warnings, *warnings]

    def _drive(
        self, record: JobRecord, task: Callable[[], Task[TaskOutput]], work: JobWork
    ) -> tuple[TaskOutput, list[str]]:
        """Run the task, from where an earlier attempt has saved it if that is possible; warnings come with the result.

        Args:
            record: the job.
            task: begins the task; called again if the saved chain does not fit.
            work: what the heart knows of the job.
        """
        try:
            chain = work.keeper.load()
            return self._follow(record, task(), chain, work), []
        except ChainError as error:
            log.warning("the chain of %s can't be used: %s", record.id, error)
            return self._follow(record, task(), None, work), [STARTED_AGAIN]

    def _follow(self, record: JobRecord, task: Task[TaskOutput], chain: Chain | None, work: JobWork) -> TaskOutput:
        request = record.request()
        ticket = self._engine.submit(
            task,
            priority=request.priority,
            preview_every=request.preview_every,
            resume=chain,
            keep=work.keeper.save,
        )
        work.follow(ticket)
        for preview in ticket.previews():
            self._show(record, preview)
        result: TaskOutput = ticket.result()
        return result

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
