"""An inference worker and a trainer in this process, on a real Valkey, without Celery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
import torch

from models.checkpoints import publish
from models.configuration import configure
from models.systems.registry import SYSTEMS
from service.blobs import Blobs
from service.catalog import Catalog
from service.jobs import Generate, JobRecord
from service.presence import Presence
from service.settings import Settings
from service.store import Queued, RecordStore
from tests.models.zoo import CLASSES, TINY, images
from workers.engine import Engine
from workers.heart import Heart
from workers.inference import InferenceWorker
from workers.residency import Residency


def publish_tiny(root: Path, name: str = "tiny", seed: int = 3) -> Path:
    """An untrained model of the first system, as a checkpoint."""
    system, entry = next(iter(SYSTEMS.items()))
    config = configure(system, "small", images(), TINY[system])
    tensors = entry.trainer(config, images(), seed, torch.device("cpu")).export()
    head = {"name": name, "title": "t", "description": "d", "license": "MIT", "system": system}
    return publish(root, {**head, **entry.card(config, CLASSES)}, tensors)


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
    )


@dataclass
class Bench:
    """One worker with all its parts."""

    settings: Settings
    store: RecordStore[JobRecord]
    blobs: Blobs
    catalog: Catalog
    engine: Engine
    residency: Residency
    heart: Heart
    worker: InferenceWorker
    sent: list[Queued] = field(default_factory=list)

    def submit(self, **request: Any) -> JobRecord:
        """Queue a job as the API would."""
        body = {"model": "tiny", "label": "round", "seed": 5, **request}
        params, warnings = Generate.model_validate(body).resolve(self.catalog.get(body["model"]))
        return self.store.submit(JobRecord.new(params, warnings))[0]

    def run(self, **request: Any) -> JobRecord:
        """Queue a job, run it here, and give its record."""
        record = self.submit(**request)
        self.worker.run(record.id)
        return self.store.get(record.id)


def make_bench(settings: Settings, client: redis.Redis, name: str) -> Bench:
    store = RecordStore(client, JobRecord)
    blobs, catalog = Blobs(settings.blobs_dir), Catalog(settings.model_dirs)
    engine = Engine(settings.max_rows)
    residency = Residency(catalog, engine, torch.device("cpu"), settings.model_memory_bytes, settings.exact)
    sent: list[Queued] = []
    heart = Heart(store, Presence(client), sent.append, settings, "inference", name, dict)
    worker = InferenceWorker(store, blobs, residency, engine, heart, name, settings.lease_seconds)
    return Bench(settings, store, blobs, catalog, engine, residency, heart, worker, sent)


@pytest.fixture
def bench(settings: Settings, client: redis.Redis) -> Iterator[Bench]:
    bench = make_bench(settings, client, "worker-1")
    bench.engine.start()
    bench.heart.start()
    yield bench
    bench.engine.stop()
    bench.heart.stop()
