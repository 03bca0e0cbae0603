"""The training worker: fits one model, resumably, and puts it into the catalog."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from redis import RedisError

from models.data.catalog import DATASETS, read
from models.data.images import DataError
from models.data.own import left_out
from models.metrics.effnet import installed_features
from models.systems.registry import VARIANTS
from models.training.configuration import TrainingError, choose, find_variant, fit
from models.training.folder import has_begun
from models.training.memory import check_memory
from models.training.plan import Plan, Rhythm
from models.training.tracking import Tracker, TrackerError
from models.training.training import Training
from service.contract.catalog import UNREADABLE, Catalog
from service.contract.errors import StaleAttemptError
from service.contract.records import Failure, Status
from service.contract.trainings import TrainingRecord
from service.pictures.blobs import Blobs
from service.settings import Settings
from service.store.store import RecordStore
from service.store.types import Beat, Queued
from workers.device import DeviceError, training_memory, usable_device
from workers.plans import command_of, data_facts, data_source, overrides_of, owner_facts
from workers.reports import Reporter, Work
from workers.upkeep.heart import Heart
from workers.upkeep.patience import patiently

log = logging.getLogger(__name__)


class TrainingWorker:
    """Runs trainings, one at a time.

    Args:
        store: the records of trainings.
        blobs: where sample sheets go.
        heart: keeps the leases alive; already started.
        send: puts a record's id on the queue again.
        settings: folders, device, times.
        worker: this worker's id.
        lost: called when the device can't be used any more; the training in work is left to its lease.
    """

    def __init__(
        self,
        store: RecordStore[TrainingRecord],
        blobs: Blobs,
        heart: Heart,
        send: Callable[[Queued], None],
        settings: Settings,
        worker: str,
        lost: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._store, self._heart, self._settings = store, heart, settings
        self._send, self._worker, self._lost = send, worker, lost
        self._reporter = Reporter(store, blobs)
        self._stopping = threading.Event()

    @property
    def draining(self) -> bool:
        """True once it was told to stop."""
        return self._stopping.is_set()

    def waiting(self) -> list[Queued]:
        """A queued training, if it could take one now."""
        return [] if self.draining or self._heart.active else self._store.waiting(1)

    def stop(self) -> None:
        """Save the training in work and hand it back to the queue. Returns at once."""
        self._stopping.set()

    def run(self, id: str) -> None:
        """Run (or go on with) the training if nobody else has it; its record tells how it ended."""
        lease = self._settings.lease_seconds
        record = None if self.draining else patiently(lambda: self._store.claim(id, self._worker, lease))
        if record is None:
            log.info("dropped the message for %s: finished, cancelled or taken", id)
            return
        work = Work()
        with self._heart.hold(record, work):
            try:
                outcome = self._outcome(record, work)
                if outcome is None:
                    patiently(lambda: self._store.release(id, record.attempt))
                    self._send(Queued(id, 5))
                else:
                    status, fields = outcome
                    patiently(lambda: self._store.finish(id, record.attempt, status, **fields))
            except (StaleAttemptError, RedisError) as error:
                log.warning("not committed: %s", error)
            except DeviceError as error:  # no fault of the training: it goes on from what it has saved, elsewhere
                log.critical("the trainer can't go on: %s", error)
                self._stopping.set()
                self._lost(error)
            finally:
                work.close()

    def _check_lease(self, record: TrainingRecord) -> None:
        """A trainer that was suspended for long may have lost the training without knowing it yet.

        Raises:
            StaleAttemptError: it has.
        """
        beat = Beat(record.id, record.attempt)
        if patiently(lambda: self._store.heartbeat([beat], self._settings.lease_seconds)) == ["stale"]:
            raise StaleAttemptError(f"attempt {record.attempt} does not hold {record.id} any more")

    def _check_name(self, record: TrainingRecord) -> None:
        """The submission was checked, but the folder of models may have changed since.

        Raises:
            TrainingError: the name is somebody else's.
        """
        name = record.params.name
        holders = Catalog(self._settings.model_dirs).owners(name) - {UNREADABLE}
        if holders and record.model_owner not in holders:
            raise TrainingError(f"the name {name} belongs to somebody else now; choose another")

    def _outcome(self, record: TrainingRecord, work: Work) -> tuple[Status, dict[str, Any]] | None:
        """How the training ends, with the fields that go with it; None if it is handed back unfinished.

        Raises:
            DeviceError: the device can't be used.
        """
        try:
            self._check_name(record)
            training = self._prepare(record, work)
            # Where it goes on from: lost attempts do not count any more if they have come further.
            patiently(lambda: self._store.note_saved(record.id, record.attempt, training.progress.iteration))
            if not training.run(lambda: self._should_stop(record, work)):
                return (Status.CANCELLED, {}) if work.cancelled else None
            self._check_lease(record)
            self._check_name(record)
            folder = training.publish(self._settings.models_dir, beside=self._settings.checkpoints_dir)
        except (TrainingError, DataError) as error:
            return Status.FAILED, {"error": Failure(kind="training-failed", detail=str(error))}
        except (StaleAttemptError, RedisError, DeviceError):
            raise  # its lease will run out, and it goes on from what it has saved
        except OSError as error:
            log.exception("training %s failed", record.id)
            detail = (
                f"its files could not be written or read ({error.strerror or type(error).__name__}); try again later"
            )
            return Status.FAILED, {"error": Failure(kind="storage", detail=detail)}
        except torch.OutOfMemoryError as error:
            log.warning("training %s does not fit: %s", record.id, error)
            detail = "the device has no memory for it: choose a smaller batch_size or image_size"
            return Status.FAILED, {"error": Failure(kind="training-failed", detail=detail)}
        except Exception:
            usable_device(self._settings.device)
            log.exception("training %s failed", record.id)
            detail = "an unexpected error, which the trainer has logged; report it with the id of the training"
            return Status.FAILED, {"error": Failure(kind="internal", detail=detail)}
        fields: dict[str, Any] = {"model": f"{record.params.name}@{folder.name}"}
        if metrics := work.metrics():
            fields["metrics"] = metrics
        return Status.SUCCEEDED, fields

    def _should_stop(self, record: TrainingRecord, work: Work) -> bool:
        if work.lost:
            # Not even the state may be saved: the folder belongs to another attempt now.
            raise StaleAttemptError(f"attempt {record.attempt} of {record.id} was taken over")
        return work.cancelled or self._stopping.is_set()

    def _prepare(self, record: TrainingRecord, work: Work) -> Training:
        request = record.params
        root = self._settings.datasets_dir
        variant = find_variant(request.system, request.preset)
        chosen = choose(variant, request.preset, overrides_of(request))
        source = data_source(request.data, root, record.owner)
        data = read(
            VARIANTS[variant].data,
            source,
            "train",
            root,
            image_size=request.image_size,
            channels=request.channels,
            direction=request.direction,
        )
        self._reporter.warn(record, work, [] if source in DATASETS else left_out(Path(source)))
        device = usable_device(self._settings.device)
        plan = Plan(
            variant=variant,
            config=fit(variant, chosen, data),
            data=data,
            name=request.name,
            seed=request.seed,
            device=device,
            command=command_of(request),
            facts={**data_facts(request.data), **owner_facts(record.model_owner)},
            features=installed_features(device),
        )
        folder = self._settings.trainings_dir / record.id
        if not has_begun(folder):
            check_memory(plan, training_memory(self._settings, device))
        work.tracker = self._tracker(record, work, plan)
        rhythm = Rhythm(save=self._settings.training_save_seconds)
        training = Training(plan, folder, lambda event: self._reporter.tell(record, work, event), rhythm)
        work.training = training
        return training

    def _tracker(self, record: TrainingRecord, work: Work, plan: Plan) -> Tracker | None:
        """Where the training is logged besides; if that can't be, a warning says so."""
        settings = self._settings
        if settings.tracker == "none":
            return None
        try:
            return Tracker(settings.tracker, settings.tracker_project, record.id, plan.described())
        except TrackerError as error:
            self._reporter.warn(record, work, [f"it is not logged elsewhere: {error}"])
            return None


def training_device(setting: str) -> torch.device:
    """The device of the setting, tried out.

    Raises:
        TrainingError: it can't be used.
    """
    try:
        return usable_device(setting)
    except DeviceError as error:
        raise TrainingError(str(error)) from error
