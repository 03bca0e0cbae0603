from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

import pytest
import torch

from service.contract.catalog import Catalog
from tests.workers.conftest import publish_tiny
from workers.engine.engine import Engine
from workers.residency.residency import Residency, UnusableModelError


def residency(root: Path, budget: int, engine: Engine | None = None) -> Residency:
    return Residency(Catalog([root]), engine or Engine(max_rows=4), torch.device("cpu"), budget)


def size_of_one(root: Path) -> int:
    with residency(root, 1).use("a@1") as resident:
        return resident.model.kernels.nbytes


def test_bytes_are_those_of_the_tensors(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path, "a")
    shipped = (folder / "model.safetensors").stat().st_size
    assert shipped < size_of_one(tmp_path) < 5 * shipped  # the weights, and what is prepacked of them


def test_the_least_recently_used_leaves_first(tmp_path: Path) -> None:
    for name in "abc":
        publish_tiny(tmp_path, name)
    models = residency(tmp_path, int(2.5 * size_of_one(tmp_path)))
    for name in ("a", "b", "a", "c"):
        with models.use(f"{name}@1"):
            pass
    assert set(models.resident()) == {"a@1", "c@1"}


def test_a_model_in_use_stays(tmp_path: Path) -> None:
    for name in "ab":
        publish_tiny(tmp_path, name)
    models = residency(tmp_path, 1)
    with models.use("a@1") as held:
        with models.use("b@1"):
            assert set(models.resident()) == {"a@1", "b@1"}
        with models.use("a@1") as again:
            assert again is held
    with models.use("b@1"):
        assert set(models.resident()) == {"b@1"}


def test_an_evicted_model_is_forgotten_by_the_engine(tmp_path: Path) -> None:
    for name in "ab":
        publish_tiny(tmp_path, name)
    engine = Engine(max_rows=4)
    models = residency(tmp_path, 1, engine)
    for name in "ab":
        with models.use(f"{name}@1") as resident:
            kernels = [kernel for kernel, _ in resident.model.kernels.examples()]
    assert set(engine._sizes) == set(kernels)


@final
class Small:
    """A meter that says whatever is asked that there is room for five rows."""

    def __init__(self) -> None:
        self.asked = 0

    def free(self) -> int:
        return 1000

    def peak(self, work: Callable[[], object]) -> int:
        work()
        self.asked += 1
        return 100 if self.asked % 4 in (1, 2) else 800


def test_the_batches_of_a_model_keep_to_what_fits_the_device(tmp_path: Path) -> None:
    publish_tiny(tmp_path, "a")
    engine, meter = Engine(max_rows=16), Small()
    models = Residency(Catalog([tmp_path]), engine, torch.device("cpu"), 2**30, exact=False, fast=False, meter=meter)
    with models.use("a@1") as resident:
        kernel = resident.model.kernels.examples()[0][0]
    assert meter.asked == 4 * len(resident.model.kernels.examples())
    assert engine.sizes_of(kernel)[-1] == 5
    assert all(size <= 5 for size in engine.sizes_of(kernel))


def test_concurrent_first_requests_load_once(tmp_path: Path) -> None:
    publish_tiny(tmp_path, "a")
    models, seen = residency(tmp_path, 10**9), []

    def use() -> None:
        with models.use("a@1") as resident:
            seen.append(resident)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(map(id, seen))) == 1
    assert seen[0].users == 0


def test_what_cannot_be_loaded_says_why_and_does_not_block(tmp_path: Path) -> None:
    folder = publish_tiny(tmp_path, "a")
    good = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    models = residency(tmp_path, 10**9)
    for _ in range(2):
        with pytest.raises(UnusableModelError, match="is damaged"), models.use("a@1"):
            pass
    with pytest.raises(UnusableModelError, match="there is no model"), models.use("b@1"):
        pass
    (folder / "model.safetensors").write_bytes(good)
    with models.use("a@1") as resident:
        assert resident.exact
