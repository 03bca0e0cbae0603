"""A real Valkey and the real API over HTTP."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from PIL import Image

from service.contract.jobs import Generate, JobRecord
from service.contract.trainings import TrainingRecord
from service.pictures.blobs import Blobs
from service.settings import Settings
from service.store.presence import Presence
from service.store.queue import INFERENCE_QUEUE, TRAINING_QUEUE
from tests.service.fakes import FakeWorker, cards, write_card
from tests.service.serving import serving
from tests.service.submitting import SubmittingStore

SAMPLE = Path(__file__).parent.parent / "data" / "fashion-sample.npz"


@pytest.fixture(scope="session")
def settings(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("service")
    for content in cards():
        write_card(root / "checkpoints", content)
    settings = Settings(redis_url=redis_url, data_dir=root / "var", checkpoints_dir=root / "checkpoints")
    add_data(settings.datasets_dir)
    return settings


def add_data(root: Path) -> None:
    """Data sets as the API sees them: two that count as fetched, images with classes, pairs, and two domains."""
    for name in ("digits", "fashion-mnist"):
        (root / name).mkdir(parents=True)
    shutil.copy(SAMPLE, root / "sample.npz")
    picture = Image.new("RGB", (64, 64))
    for place in ("pairs/A", "pairs/B", "horses/trainA", "horses/trainB", "plain"):
        (root / place).mkdir(parents=True)
        picture.save(root / place / "0.png")


@pytest.fixture(scope="session")
def base_url(settings: Settings) -> Iterator[str]:
    with serving(settings) as url:
        yield url


@pytest.fixture
def api(base_url: str, client: redis.Redis) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, timeout=30) as http:
        yield http


@pytest.fixture
def jobs(client: redis.Redis) -> SubmittingStore[JobRecord]:
    return SubmittingStore(client, JobRecord)


@pytest.fixture
def trainings(client: redis.Redis) -> SubmittingStore[TrainingRecord]:
    return SubmittingStore(client, TrainingRecord)


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


@pytest.fixture
def worker(jobs: SubmittingStore[JobRecord], settings: Settings) -> FakeWorker:
    return FakeWorker(jobs, Blobs(settings.blobs_dir))
