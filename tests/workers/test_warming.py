"""Models are made ready while the engine has nothing to do, and jobs never wait for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.cluster import wait_for
from models.core.loop import Loop, Rows, Task
from models.core.noise import Noise
from service.contract.catalog import Catalog
from tests.workers.conftest import publish_tiny
from workers.engine.engine import Engine
from workers.engine.exact import ClosedError, KnownSizes, candidate_sizes, few_sizes
from workers.residency import warming
from workers.residency.residency import Residency
from workers.residency.warming import Warming


class Room:
    """What a worker has: models on disk and in memory, and an engine."""

    def __init__(self, root: Path, *names: str) -> None:
        self.folders = [publish_tiny(root / "models", name) for name in names]
        self.engine = Engine(max_rows=16)
        self.known, self.catalog = root / "exact", Catalog([root / "models"])
        self.residency = Residency(self.catalog, self.engine, torch.device("cpu"), 10**9, KnownSizes(self.known))
        self.warming = Warming(self.catalog, self.residency, self.engine)

    def sizes(self) -> set[tuple[int, ...]]:
        """The batch sizes that the engine knows to agree, of all kernels."""
        return {agreement.sizes for agreement in self.engine._agreements.values()}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "REST_SECONDS", 0.0)
    monkeypatch.setattr(warming, "LOOK_SECONDS", 0.01)


def test_the_newest_of_each_name_is_loaded_and_damage_survived(tmp_path: Path, caplog: Any) -> None:
    room = Room(tmp_path, "a", "a", "b")
    file = room.folders[-1] / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    room.warming.load()
    assert set(room.residency.resident()) == {"a@2"}
    assert "b@1 can't be loaded" in caplog.text
    assert room.warming.ready.is_set()


def test_few_sizes_at_first_then_all(tmp_path: Path) -> None:
    room = Room(tmp_path, "a")
    room.warming.load()
    assert room.residency.unsettled() == "a@1"
    assert not room.known.exists()
    few = room.sizes()
    assert few
    assert all(set(sizes) <= set(few_sizes(16)) for sizes in few)
    room.warming.settle()
    assert room.residency.unsettled() is None
    assert room.sizes() != few
    assert all(set(sizes) <= set(candidate_sizes(16)) for sizes in room.sizes())
    again = Room(tmp_path, "c")
    with again.residency.use("a@1"):
        assert again.residency.unsettled() is None  # it was noted
        assert again.sizes() == room.sizes()


def until(on: threading.Event) -> Task[None]:
    """Keeps the engine busy."""

    def slow(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        on.wait(60)
        return rows

    yield Loop(slow, {"x": torch.zeros(1, 1)}, steps=1, seeds=[0])


def test_an_engine_that_never_rests_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "REST_SECONDS", 1000.0)
    monkeypatch.setattr(warming, "PATIENCE_SECONDS", 0.01)
    room, on = Room(tmp_path, "a", "b"), threading.Event()
    room.engine.start()
    ticket = room.engine.submit(until(on))
    room.warming.load()
    assert room.engine.idle_seconds == 0
    assert set(room.residency.resident()) == {"a@1", "b@1"}
    on.set()
    ticket.result()
    room.engine.stop()


def test_it_waits_until_the_engine_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "REST_SECONDS", 0.1)
    room, on = Room(tmp_path, "a", "b"), threading.Event()
    room.engine.start()
    ticket = room.engine.submit(until(on))
    room.warming.start()
    assert room.warming.ready.wait(30)
    time.sleep(0.5)
    assert set(room.residency.resident()) == {"a@1"}  # the first is loaded at once, the other one not yet
    assert room.engine.idle_seconds == 0
    on.set()
    ticket.result()
    wait_for(lambda: len(room.residency.resident()) == 2, "the other model", 30)
    wait_for(lambda: room.residency.unsettled() is None, "all sizes", 30)
    room.warming.stop(10)
    room.engine.stop()
    assert not room.warming.is_alive()


def test_a_model_whose_sizes_can_not_be_tried_is_left_as_it_is(tmp_path: Path, caplog: Any) -> None:
    room = Room(tmp_path, "a")
    room.warming.load()
    (room.folders[0] / "card.json").unlink()
    room.warming.settle()
    assert "the batch sizes of a@1 could not be tried" in caplog.text
    assert room.residency.unsettled() is None
    assert set(room.residency.resident()) == {"a@1"}


def test_it_ends_when_the_worker_closes(tmp_path: Path) -> None:
    room = Room(tmp_path, "a", "b")
    room.warming.stop(1)
    with pytest.raises(ClosedError):
        room.warming.load()
    assert room.residency.resident() == {}
    with pytest.raises(ClosedError), room.residency.use("a@1"):
        pass
