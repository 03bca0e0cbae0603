"""Models are made ready while the engine has nothing to do, and jobs never wait for it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.cluster import wait_for
from models.core.loop import Loop, Rows, Task
from models.core.noise import Noise
from service.contract.catalog import Catalog
from tests.workers.conftest import publish_tiny
from tests.workers.recording import RecordingLane
from workers.engine.engine import Engine
from workers.engine.sizes import tried_sizes
from workers.residency.residency import Residency
from workers.residency.warming import Warming


class Unloading:
    """Stands for the models of a worker whose device is lost."""

    budget = 10**9

    def use(self, ref: str) -> None:
        raise torch.AcceleratorError(f"CUDA error while loading {ref}")


class Room:
    """What a worker has: models on disk and in memory, and an engine."""

    def __init__(self, root: Path, *names: str, rest: float = 0.0, patience: float = 10.0) -> None:
        self.folders = [publish_tiny(root / "models", name) for name in names]
        self.engine, self.catalog = Engine(max_rows=16), Catalog([root / "models"])
        self.residency = Residency(self.catalog, self.engine, torch.device("cpu"), 10**9)
        self.warming = Warming(self.catalog, self.residency, self.engine, rest_seconds=rest, patience_seconds=patience)


def test_the_newest_of_each_name_is_loaded_and_damage_survived(tmp_path: Path, caplog: Any) -> None:
    room = Room(tmp_path, "a", "a", "b")
    file = room.folders[-1] / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    room.warming.run()
    assert set(room.residency.resident()) == {"a@2"}
    assert "b@1 can't be loaded" in caplog.text
    assert room.warming.ready.is_set()


def test_a_worker_whose_device_is_lost_never_becomes_ready(tmp_path: Path) -> None:
    room, lane, told = Room(tmp_path, "a", "b"), RecordingLane(), list[Exception]()
    lane.fault = "CUDA error: an illegal memory access was encountered"
    engine = Engine(max_rows=16, lane=lane, on_failure=told.append)
    warming = Warming(room.catalog, cast("Residency", Unloading()), engine, rest_seconds=0.0)
    warming.run()
    assert not warming.ready.is_set()
    assert ["illegal memory access" in str(error) for error in told] == [True]


def test_batch_sizes_are_known_once_a_model_is_loaded(tmp_path: Path) -> None:
    room = Room(tmp_path, "a")
    room.warming.run()
    sizes = set(room.engine._sizes.values())
    assert sizes
    assert all(set(found) <= set(tried_sizes(16)) for found in sizes)


def until(on: threading.Event) -> Task[None]:
    """Keeps the engine busy."""

    def slow(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        on.wait(60)
        return rows

    yield Loop(slow, {"x": torch.zeros(1, 1)}, steps=1, seeds=[0])


def test_an_engine_that_never_rests_is_not_waited_for_without_end(tmp_path: Path) -> None:
    room, on = Room(tmp_path, "a", "b", rest=1000.0, patience=0.01), threading.Event()
    room.engine.start()
    ticket = room.engine.submit(until(on))
    room.warming.run()
    assert room.engine.idle_seconds == 0
    assert set(room.residency.resident()) == {"a@1", "b@1"}
    on.set()
    ticket.result()
    room.engine.stop()


def test_it_waits_until_the_engine_rests(tmp_path: Path) -> None:
    room, on = Room(tmp_path, "a", "b", rest=0.1), threading.Event()
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
    room.warming.stop(10)
    room.engine.stop()
    assert not room.warming.is_alive()


def test_it_ends_when_the_worker_closes(tmp_path: Path) -> None:
    room = Room(tmp_path, "a", "b")
    room.warming.stop(1)
    room.warming.run()
    assert room.residency.resident() == {}
