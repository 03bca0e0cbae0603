"""The Celery applications of the two workers: thin messages in, everything else in the classes that they call."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from celery import Celery
from celery.signals import worker_shutting_down

from service.blobs import Blobs
from service.catalog import Catalog
from service.jobs import JobRecord
from service.presence import Presence
from service.queue import (
    INFERENCE_QUEUE,
    RUN_JOB,
    RUN_TRAINING,
    TRAINING_QUEUE,
    JobQueue,
    celery_options,
)
from service.settings import Settings
from service.store import Queued, RecordStore, connect
from service.trainings import TrainingRecord
from workers.engine import Engine
from workers.heart import Heart
from workers.inference import InferenceWorker
from workers.residency import Residency
from workers.training import TrainingWorker, choose_device

SWITCH_INTERVAL = 5e-4
"""Seconds after which a busy Python thread yields. The engine's thread asks for the interpreter after every operation
of torch; at the default of 5 ms, threads that encode images would hold it up for many times a step's length."""


@dataclass
class WorkerProcess:
    """A worker before it listens: the Celery application, and what to do at the end."""

    celery: Celery
    queue: str
    threads: int
    close: Callable[[], None]

    def serve(self, log_level: str) -> None:
        """Take messages until SIGTERM or SIGINT; finish what is in work, then return."""
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
            self.close()


def make_celery(settings: Settings) -> Celery:
    """A Celery application with the settings that senders and workers share."""
    celery = Celery("coopserve", set_as_current=False)
    celery.conf.update(celery_options(settings))
    return celery


def worker_id(kind: str) -> str:
    """A name for this process that no other has."""
    return f"{kind}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


def prepare_torch(settings: Settings) -> torch.device:
    """Settings of torch for a process that computes; returns the device.

    One core is left to the API and to the threads that encode images: torch's threads wait for each other after every
    operation, so one of them that has no core of its own holds up all.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(settings.torch_threads or max(1, len(os.sched_getaffinity(0)) - 1))
    return torch.device(choose_device(settings.device))


def make_inference_worker(settings: Settings) -> WorkerProcess:
    """The process that runs jobs: a thread a job, one engine, the models in memory."""
    device = prepare_torch(settings)
    sys.setswitchinterval(SWITCH_INTERVAL)
    client = connect(settings.broker_url)
    store = RecordStore(client, JobRecord)
    queue, name = JobQueue(settings), worker_id("inference")
    engine = Engine(settings.max_rows, device)
    catalog = Catalog(settings.model_dirs)
    residency = Residency(catalog, engine, device, settings.model_memory_bytes, settings.exact)

    def figures() -> Mapping[str, Any]:
        return {
            "engine_steps": engine.steps,
            "engine_rows": engine.rows_advanced,
            "engine_busy_seconds": round(engine.busy_seconds, 3),
            "models": residency.resident(),
        }

    def send(queued: Queued) -> None:
        queue.send(RUN_JOB, queued.id, INFERENCE_QUEUE, queued.priority)

    heart = Heart(store, Presence(client), send, settings, "inference", name, figures)
    worker = InferenceWorker(store, Blobs(settings.blobs_dir), residency, engine, heart, name, settings.lease_seconds)
    celery = make_celery(settings)

    @celery.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
    def run_job(id: str) -> None:
        worker.run(id)

    engine.start()
    residency.warm()
    heart.start()

    def close() -> None:
        engine.stop()
        heart.stop()
        queue.close()
        client.close()

    return WorkerProcess(celery, INFERENCE_QUEUE, settings.worker_threads, close)


def make_training_worker(settings: Settings) -> WorkerProcess:
    """The process that fits models, one at a time; on SIGTERM it saves the training and hands it back."""
    prepare_torch(settings)
    client = connect(settings.broker_url)
    store = RecordStore(client, TrainingRecord)
    queue, name = JobQueue(settings), worker_id("training")

    def send(queued: Queued) -> None:
        queue.send(RUN_TRAINING, queued.id, TRAINING_QUEUE, queued.priority)

    heart = Heart(store, Presence(client), send, settings, "training", name, dict)
    worker = TrainingWorker(store, Blobs(settings.blobs_dir), heart, send, settings, name)
    celery = make_celery(settings)

    @celery.task(name=RUN_TRAINING)  # type: ignore[untyped-decorator]
    def run_training(id: str) -> None:
        worker.run(id)

    def stop(**_: Any) -> None:
        worker.stop()

    worker_shutting_down.connect(stop, weak=False)
    heart.start()

    def close() -> None:
        heart.stop()
        queue.close()
        client.close()

    return WorkerProcess(celery, TRAINING_QUEUE, 1, close)
