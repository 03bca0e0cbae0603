"""What administrators ask of a worker."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from service.store.control import Control
from tests.workers.conftest import publish_tiny
from tests.workers.test_residency import residency, size_of_one
from workers.residency.control import Controller
from workers.residency.residency import Residency


@pytest.fixture
def control(client: redis.Redis) -> Control:
    return Control(client)


@pytest.fixture
def models(tmp_path: Path) -> Residency:
    """Room for one model and a half."""
    for name in "abc":
        publish_tiny(tmp_path, name)
    return residency(tmp_path, int(1.5 * size_of_one(tmp_path)))


def use(models: Residency, *refs: str) -> None:
    for ref in refs:
        with models.use(ref):
            pass


def test_a_pinned_model_is_not_evicted(models: Residency, control: Control) -> None:
    controller = Controller(control, models)
    controller.follow(0.01)
    control.load("a@1")
    controller.follow(0.01)
    assert set(models.resident()) == {"a@1"}
    use(models, "b@1", "c@1")
    assert set(models.resident()) == {"a@1", "c@1"}
    assert (models.loads, models.evictions) == (3, 1)
    control.unload("a@1")
    controller.follow(0.01)
    assert set(models.resident()) == {"c@1"}
    assert models.evictions == 1


def test_a_worker_that_starts_later_loads_what_is_pinned(models: Residency, control: Control) -> None:
    for ref in ("a@1", "nope@1", "b@1"):
        control.load(ref)
    control.unload("b@1")
    Controller(control, models).follow(0.01)
    assert set(models.resident()) == {"a@1"}


def test_a_model_in_use_is_unloaded_when_its_last_job_has_ended(models: Residency, control: Control) -> None:
    controller = Controller(control, models)
    controller.follow(0.01)
    with models.use("a@1"):
        control.unload("a@1")
        controller.follow(0.01)
        with models.use("a@1"):
            assert set(models.resident()) == {"a@1"}
        assert set(models.resident()) == {"a@1"}
    assert models.resident() == {}
    use(models, "a@1")
    assert set(models.resident()) == {"a@1"}


def test_loading_again_takes_unloading_back(models: Residency, control: Control) -> None:
    with models.use("a@1"):
        models.unload("a@1")
        models.pin("a@1")
    assert set(models.resident()) == {"a@1"}


def test_the_thread_follows_and_stops(models: Residency, control: Control) -> None:
    controller = Controller(control, models)
    control.load("a@1")
    controller.start()
    try:
        deadline = 200
        while "a@1" not in models.resident() and deadline:
            controller.join(0.05)
            deadline -= 1
        assert "a@1" in models.resident()
    finally:
        controller.stop()
    assert not controller.is_alive()
