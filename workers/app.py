"""The two kinds of worker, put together from their parts."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from models.core.devices import probed
from pictures.budget import ByteBudget
from service.contract.catalog import Catalog
from service.contract.jobs import JobRecord
from service.contract.trainings import TrainingRecord
from service.pictures.blobs import Blobs
from service.pictures.places import job_chain, job_folder, training_folder
from service.pictures.room import Room
from service.pictures.shelf import Shelf
from service.settings import Settings
from service.store.connection import connect
from service.store.control import Control
from service.store.ledger import Ledger
from service.store.presence import MEMORY_FIGURE, Presence, new_id
from service.store.queue import (
    INFERENCE_QUEUE,
    RUN_JOB,
    RUN_TRAINING,
    TRAINING_QUEUE,
    JobQueue,
)
from service.store.store import RecordStore
from service.store.types import Queued, StorageLimits
from workers.device import capacity, engine_threads, prepare_torch, training_memory
from workers.engine.engine import Engine
from workers.engine.policy import Policy
from workers.engine.room import meter_of
from workers.jobs.lacking import KIND, Lacking
from workers.jobs.worker import InferenceWorker
from workers.process import WorkerProcess, make_celery
from workers.residency.control import Controller
from workers.residency.residency import Residency
from workers.residency.warming import Warming
from workers.training import TrainingWorker
from workers.upkeep.farewell import tell_failure
from workers.upkeep.heart import Heart
from workers.upkeep.janitor import Janitor
from workers.upkeep.pulse import Pulse
from workers.upkeep.shutdown import Shutdown, leave

log = logging.getLogger(__name__)

SWITCH_INTERVAL = 5e-4
"""Seconds after which a busy Python thread yields. The engine's threads ask for the interpreter after every operation
of torch; at the default of 5 ms, threads that encode images would hold it up for many times a step's length."""


def make_residency(settings: Settings, catalog: Catalog, engine: Engine, device: torch.device) -> Residency:
    """The models of an inference worker."""
    exact = device.type == "cpu" if settings.exact is None else settings.exact
    budget, meter = capacity(settings).model_bytes, meter_of(device)
    return Residency(catalog, engine, device, budget, exact=exact, fast=settings.fast_networks, meter=meter)


def make_engine(
    settings: Settings,
    device: torch.device,
    policy: Policy | None = None,
    on_failure: Callable[[Exception], None] | None = None,
) -> Engine:
    """The engine of an inference worker."""
    return Engine(
        capacity(settings).rows,
        device,
        settings.checkpoint_seconds,
        engine_threads(settings),
        policy or Policy(),
        fast=settings.fast_networks,
        on_failure=on_failure,
    )


def make_inference_worker(settings: Settings) -> WorkerProcess:
    """The process that runs jobs: a thread a job, one engine, the models in memory."""
    device, places = prepare_torch(settings, engine_threads(settings)), capacity(settings).places
    sys.setswitchinterval(SWITCH_INTERVAL)
    client = connect(settings.broker_url)
    store, blobs = RecordStore(client, JobRecord), Blobs(settings.blobs)
    shelf = Shelf(blobs, Ledger(client), StorageLimits(), Room(None, 0))  # it only sweeps
    queue, name = JobQueue(client, RUN_JOB, INFERENCE_QUEUE), new_id("inference")
    presence = Presence(client)

    def failed(error: Exception) -> None:
        """The leases hand its jobs on, and count this attempt as lost: one of them may be what broke the device."""
        tell_failure(presence, KIND, str(error))
        leave(1)

    engine = make_engine(settings, device, on_failure=failed)
    pulse = Pulse(lambda: probed(device), failed)
    catalog = Catalog(settings.model_dirs)
    residency = make_residency(settings, catalog, engine, device)
    warming = Warming(catalog, residency, engine)

    def figures() -> Mapping[str, Any]:
        return {
            "state": _state(worker.draining, pulse.silent, warming.ready.is_set()),
            "engine_threads": engine.threads,
            "engine_steps_total": engine.steps,
            "engine_rows_total": engine.rows_advanced,
            "engine_busy_seconds_total": round(engine.busy_seconds, 3),
            "chains_saved_total": engine.chains_saved,
            "model_loads_total": residency.loads,
            "model_evictions_total": residency.evictions,
            "models": residency.resident(),
        }

    def send(queued: Queued) -> None:
        queue.send(queued.id, queued.priority)

    def delete(id: str) -> None:
        blobs.delete_prefix(job_folder(id))
        blobs.delete_prefix(job_chain(id))

    heart, lacking = Heart(store, presence, settings, KIND, name, figures), Lacking(store, presence, send, name)
    worker = InferenceWorker(
        store,
        blobs,
        residency,
        engine,
        lacking,
        heart,
        send,
        places,
        name,
        settings.lease_seconds,
        ByteBudget(settings.picture_memory_bytes),
    )

    def also() -> None:
        lacking.sweep()
        try:
            shelf.sweep()
        except OSError as error:  # a later sweep deletes them; jobs need not wait for that
            log.warning("pictures that nobody holds could not be deleted: %s", error)

    janitor = Janitor(store, send, worker.waiting, delete, settings.lease_seconds, also)
    controller = Controller(Control(client), residency)
    celery = make_celery(settings)

    @celery.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
    def run_job(_id: str) -> None:
        worker.run()

    def begin() -> None:
        # Jobs are taken at once, also those of a worker that was lost: their models are loaded first.
        for thread in (engine, warming, heart, janitor, controller):
            thread.start()
        if device.type != "cpu":
            pulse.start()

    def close() -> None:
        warming.stop(settings.drain_seconds)
        pulse.stop()
        janitor.stop()
        controller.stop()
        engine.stop()
        heart.stop()
        client.close()
        if warming.is_alive():
            leave()

    shutdown = Shutdown(lambda: worker.drain(settings.drain_seconds), settings.drain_seconds)
    return WorkerProcess(celery, INFERENCE_QUEUE, places, begin, shutdown, close)


def _state(draining: bool, silent: bool, ready: bool) -> str:
    if silent:
        return "stuck"
    return "draining" if draining else "ready" if ready else "starting"


def make_training_worker(settings: Settings) -> WorkerProcess:
    """The process that fits models, one at a time; on SIGTERM it saves the training and hands it back."""
    memory = training_memory(settings, prepare_torch(settings))
    client = connect(settings.broker_url)
    store, blobs = RecordStore(client, TrainingRecord), Blobs(settings.blobs)
    queue, name = JobQueue(client, RUN_TRAINING, TRAINING_QUEUE), new_id("training")

    def send(queued: Queued) -> None:
        queue.send(queued.id, queued.priority)

    def delete(id: str) -> None:
        blobs.delete_prefix(training_folder(id))
        shutil.rmtree(settings.trainings_dir / id, ignore_errors=True)

    def figures() -> Mapping[str, Any]:
        return {"state": "draining" if worker.draining else "ready", MEMORY_FIGURE: memory}

    presence = Presence(client)

    def lost(error: Exception) -> None:
        tell_failure(presence, "training", str(error))
        leave(1)

    heart = Heart(store, presence, settings, "training", name, figures)
    worker = TrainingWorker(store, blobs, heart, send, settings, name, lost)
    janitor = Janitor(store, send, worker.waiting, delete, settings.lease_seconds)
    celery = make_celery(settings)

    @celery.task(name=RUN_TRAINING)  # type: ignore[untyped-decorator]
    def run_training(id: str) -> None:
        worker.run(id)

    def begin() -> None:
        heart.start()
        janitor.start()

    def close() -> None:
        janitor.stop()
        heart.stop()
        client.close()

    return WorkerProcess(celery, TRAINING_QUEUE, 1, begin, Shutdown(worker.stop, settings.drain_seconds), close)
