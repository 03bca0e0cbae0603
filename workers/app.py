"""The Celery applications of the two workers: thin messages in, everything else in the classes that they call."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from celery import Celery
from celery.signals import setup_logging, worker_shutting_down

from service.contract.catalog import Catalog
from service.contract.jobs import JobRecord
from service.contract.trainings import TrainingRecord
from service.pictures.blobs import Blobs
from service.pictures.places import job_chain, job_folder, training_folder
from service.settings import Settings
from service.store.connection import connect
from service.store.control import Control
from service.store.presence import Presence, new_id
from service.store.queue import (
    INFERENCE_QUEUE,
    RUN_JOB,
    RUN_TRAINING,
    TRAINING_QUEUE,
    JobQueue,
    celery_options,
)
from service.store.store import RecordStore
from service.store.types import Queued
from workers.engine.engine import Engine
from workers.jobs.worker import InferenceWorker
from workers.residency.control import Controller
from workers.residency.residency import Residency
from workers.residency.warming import Warming
from workers.training import TrainingWorker, choose_device
from workers.upkeep.heart import Heart
from workers.upkeep.janitor import Janitor
from workers.upkeep.shutdown import Shutdown

SWITCH_INTERVAL = 5e-4
"""Seconds after which a busy Python thread yields. The engine's threads ask for the interpreter after every operation
of torch; at the default of 5 ms, threads that encode images would hold it up for many times a step's length."""


@dataclass
class WorkerProcess:
    """A worker before it listens.

    Args:
        celery: the Celery application.
        queue: where its messages come from.
        threads: how many messages it works on at a time.
        begin: starts its threads.
        shutdown: called at each SIGTERM and SIGINT.
        close: ends its threads.
    """

    celery: Celery
    queue: str
    threads: int
    begin: Callable[[], None]
    shutdown: Shutdown
    close: Callable[[], None]

    def serve(self, log_level: str) -> None:
        """Take messages until SIGTERM or SIGINT; hand back what is in work, then return."""
        worker_shutting_down.connect(self.shutdown, weak=False)
        setup_logging.connect(_keep_logging, weak=False)
        self.begin()
        try:
            self.celery.Worker(
                pool="threads",
                concurrency=self.threads,
                queues=[self.queue],
                loglevel=log_level.upper(),
                hostname=f"{self.queue}@{socket.gethostname()}-{os.getpid()}",
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
                quiet=True,
            ).start()
        finally:
            self.shutdown.done()
            self.close()


def _keep_logging(**_: Any) -> None:
    """Its being connected keeps Celery from setting up log lines of its own."""


def make_celery(settings: Settings) -> Celery:
    """A Celery application with the settings that senders and workers share."""
    celery = Celery("coopserve", set_as_current=False)
    celery.conf.update(celery_options(settings))
    return celery


def prepare_torch(settings: Settings, batches: int = 1) -> torch.device:
    """Settings of torch for a process that computes; returns the device.

    With one batch at a time one core is left to all else: torch's threads wait for each other after every operation, so
    one of them that has no core of its own holds up all.

    Args:
        settings: of the process.
        batches: how many are advanced at the same time, each on threads of its own.
    """
    torch.set_flush_denormal(True)
    share = ceil((len(os.sched_getaffinity(0)) - 1) / batches)
    torch.set_num_threads(settings.torch_threads or max(1, share))
    return torch.device(choose_device(settings.device))


def engine_threads(settings: Settings) -> int:
    """How many batches an inference worker advances at the same time."""
    if settings.engine_threads is not None:
        return settings.engine_threads
    on_cpu = choose_device(settings.device) == "cpu"
    return min(2, len(os.sched_getaffinity(0))) if on_cpu else 1


def make_residency(settings: Settings, catalog: Catalog, engine: Engine, device: torch.device) -> Residency:
    """The models of an inference worker."""
    return Residency(
        catalog, engine, device, settings.model_memory_bytes, exact=settings.exact, fast=settings.fast_networks
    )


def make_inference_worker(settings: Settings) -> WorkerProcess:
    """The process that runs jobs: a thread a job, one engine, the models in memory."""
    threads = engine_threads(settings)
    device = prepare_torch(settings, threads)
    sys.setswitchinterval(SWITCH_INTERVAL)
    client = connect(settings.broker_url)
    store, blobs = RecordStore(client, JobRecord), Blobs(settings.blobs)
    queue, name = JobQueue(client, RUN_JOB, INFERENCE_QUEUE), new_id("inference")
    engine = Engine(settings.max_rows, device, settings.checkpoint_seconds, threads)
    catalog = Catalog(settings.model_dirs)
    residency = make_residency(settings, catalog, engine, device)
    warming = Warming(catalog, residency, engine)

    def figures() -> Mapping[str, Any]:
        return {
            "state": "draining" if worker.draining else "ready" if warming.ready.is_set() else "starting",
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

    heart = Heart(store, Presence(client), settings, "inference", name, figures)
    worker = InferenceWorker(
        store, blobs, residency, engine, heart, send, settings.worker_threads, name, settings.lease_seconds
    )
    janitor = Janitor(store, send, worker.waiting, delete, settings.lease_seconds)
    controller = Controller(Control(client), residency)
    celery = make_celery(settings)

    @celery.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
    def run_job(_id: str) -> None:
        worker.run()

    def begin() -> None:
        # Jobs are taken at once, also those of a worker that was lost: their models are loaded first.
        for thread in (engine, warming, heart, janitor, controller):
            thread.start()

    def close() -> None:
        warming.stop(settings.drain_seconds)
        janitor.stop()
        controller.stop()
        engine.stop()
        heart.stop()
        client.close()

    shutdown = Shutdown(lambda: worker.drain(settings.drain_seconds), settings.drain_seconds)
    return WorkerProcess(celery, INFERENCE_QUEUE, settings.worker_threads, begin, shutdown, close)


def make_training_worker(settings: Settings) -> WorkerProcess:
    """The process that fits models, one at a time; on SIGTERM it saves the training and hands it back."""
    prepare_torch(settings)
    client = connect(settings.broker_url)
    store, blobs = RecordStore(client, TrainingRecord), Blobs(settings.blobs)
    queue, name = JobQueue(client, RUN_TRAINING, TRAINING_QUEUE), new_id("training")

    def send(queued: Queued) -> None:
        queue.send(queued.id, queued.priority)

    def delete(id: str) -> None:
        blobs.delete_prefix(training_folder(id))
        shutil.rmtree(settings.trainings_dir / id, ignore_errors=True)

    def figures() -> Mapping[str, Any]:
        return {"state": "draining" if worker.draining else "ready"}

    heart = Heart(store, Presence(client), settings, "training", name, figures)
    worker = TrainingWorker(store, blobs, heart, send, settings, name)
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
