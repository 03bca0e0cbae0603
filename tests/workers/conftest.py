"""An inference worker and a trainer in this process, on a real Valkey, without Celery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis
import torch

from models.checkpoints import publish
from pictures.budget import ByteBudget
from service.contract.catalog import Catalog
from service.contract.jobs import Generate, JobRecord
from service.pictures.blobs import Blobs
from service.settings import Settings
from service.store.presence import Presence
from service.store.types import Message, Queued
from tests.models.zoo import ZOO
from tests.service.submitting import SubmittingStore
from workers.device import capacity
from workers.engine.engine import Engine
from workers.engine.lanes import Lane
from workers.jobs.lacking import KIND, Lacking
from workers.jobs.worker import InferenceWorker
from workers.residency.residency import Residency
from workers.upkeep.heart import Heart
from workers.upkeep.janitor import Janitor


def publish_tiny(root: Path, name: str = "tiny", slope: float = 1.0) -> Path:
    """An untrained model, as a checkpoint; its energy is so many times as steep."""
    card, tensors = _tiny()
    tensors = {**tensors, "solver.head.weight": tensors["solver.head.weight"] * slope}
    return publish(root, {"name": name, "title": "t", "description": "d", "license": "MIT", **card}, tensors)


@cache
def _tiny() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    tiny = ZOO["ccoopnets"]
    return tiny.card(), tiny.trainer().export()


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    publish_tiny(tmp_path / "checkpoints")
    return Settings(
        redis_url=redis_url,
        data_dir=tmp_path / "var",
        checkpoints_dir=tmp_path / "checkpoints",
        lease_seconds=1.0,
        heartbeat_seconds=0.05,
        max_rows=8,
        checkpoint_seconds=0.05,
        worker_threads=16,
    )


@dataclass
class Bench:
    """One worker with all its parts."""

    name: str
    settings: Settings
    store: SubmittingStore[JobRecord]
    presence: Presence
    blobs: Blobs
    catalog: Catalog
    engine: Engine
    residency: Residency
    heart: Heart
    worker: InferenceWorker
    janitor: Janitor
    sent: list[Queued] = field(default_factory=list)

    def submit(self, **request: Any) -> JobRecord:
        """Queue a job as the API would."""
        body = {"model": "tiny", "label": "round", "seed": 5, **request}
        params, warnings = Generate.model_validate(body).resolve(self.catalog.get(body["model"]))
        record = JobRecord.new(params, warnings)
        return self.store.submit(record, queue=record.model, message=Message("messages", record.id))[0]

    def run(self, **request: Any) -> JobRecord:
        """Queue a job, run it here, and give its record."""
        record = self.submit(**request)
        self.worker.run()
        return self.store.get(record.id)

    def start(self) -> None:
        """Start its threads, but for the sweeps."""
        self.engine.start()
        self.heart.start()

    def stop(self) -> None:
        self.engine.stop()
        self.heart.stop()


def make_bench(
    settings: Settings, client: redis.Redis, name: str, blobs: Blobs | None = None, lane: Lane | None = None
) -> Bench:
    store = SubmittingStore(client, JobRecord)
    blobs, catalog = blobs or Blobs(settings.blobs_dir), Catalog(settings.model_dirs)
    room = capacity(settings)
    engine = Engine(room.rows, checkpoint_seconds=settings.checkpoint_seconds, lane=lane)
    residency = Residency(catalog, engine, torch.device("cpu"), room.model_bytes)
    sent: list[Queued] = []
    presence = Presence(client)
    heart, lacking = Heart(store, presence, settings, KIND, name, dict), Lacking(store, presence, sent.append, name)
    places, lease, budget = room.places, settings.lease_seconds, ByteBudget(2**24)
    worker = InferenceWorker(store, blobs, residency, engine, lacking, heart, sent.append, places, name, lease, budget)

    def delete(id: str) -> None:
        blobs.delete_prefix(f"jobs/{id}")

    janitor = Janitor(store, sent.append, worker.waiting, delete, lease, lacking.sweep)
    return Bench(name, settings, store, presence, blobs, catalog, engine, residency, heart, worker, janitor, sent)


@pytest.fixture
def bench(settings: Settings, client: redis.Redis) -> Iterator[Bench]:
    bench = make_bench(settings, client, "worker-1")
    bench.start()
    yield bench
    bench.stop()
