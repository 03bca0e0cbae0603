"""The janitor, patience with the store, and what a signal does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from service.contract.errors import NotFoundError
from service.contract.jobs import Generate, JobRecord
from service.contract.records import Status
from service.pictures.blobs import Blobs
from service.store.types import Claim, Queued
from tests.service.submitting import SubmittingStore
from workers.chains.keeper import Keeper
from workers.upkeep.janitor import Janitor
from workers.upkeep.patience import patiently
from workers.upkeep.shutdown import Shutdown

LEASE = 0.3


def new_job(model: str = "toy@1") -> JobRecord:
    return JobRecord.new(Generate(model=model, n=1, seed=7, steps=3, step_size=1.0, noise=0.0, refine=True), [])


class Away(SubmittingStore[JobRecord]):
    """A store that can be out of reach."""

    away = False

    def fail_late(self) -> int:
        if self.away:
            raise redis.ConnectionError("away")
        return super().fail_late()


class Sweeps:
    """A janitor with all that it calls."""

    def __init__(self, client: redis.Redis, keep_seconds: float = 60.0) -> None:
        self.store = Away(client, JobRecord, keep_seconds=keep_seconds)
        self.sent: list[Queued] = []
        self.deleted: list[str] = []
        self.waiting: list[Queued] = []
        self.janitor = Janitor(self.store, self.sent.append, lambda: self.waiting, self.deleted.append, LEASE)

    def submit(self) -> str:
        return self.store.submit(new_job(), queue="m")[0].id


@pytest.fixture
def sweeps(client: redis.Redis) -> Sweeps:
    return Sweeps(client)


def test_what_waits_is_sent_again_if_there_is_room_for_it(sweeps: Sweeps) -> None:
    sweeps.submit()
    sweeps.janitor.sweep()
    assert sweeps.sent == []
    sweeps.waiting = sweeps.store.waiting(9)
    sweeps.janitor.sweep()
    assert sweeps.sent == sweeps.waiting


def test_the_jobs_of_a_silent_worker_are_sent_again(sweeps: Sweeps) -> None:
    id = sweeps.submit()
    sweeps.store.claim(id, "dead", 0.01)
    time.sleep(0.02)
    sweeps.janitor.sweep()
    assert sweeps.sent == [Queued(id, 5)]


def test_after_the_store_was_away_workers_may_renew_their_leases_first(sweeps: Sweeps) -> None:
    sweeps.janitor.sweep()
    id = sweeps.submit()
    sweeps.store.claim(id, "alive", 0.01)
    sweeps.store.away = True
    with pytest.raises(redis.ConnectionError):
        sweeps.janitor.sweep()
    sweeps.store.away = False
    time.sleep(LEASE)
    sweeps.janitor.sweep()
    assert sweeps.store.get(id).status is Status.RUNNING
    deadline = time.monotonic() + 10
    while not sweeps.sent and time.monotonic() < deadline:
        time.sleep(LEASE / 4)
        sweeps.janitor.sweep()
    assert sweeps.sent == [Queued(id, 5)]


def test_a_janitor_that_is_late_itself_does_not_wait_any_longer(sweeps: Sweeps) -> None:
    sweeps.janitor.sweep()
    id = sweeps.submit()
    sweeps.store.claim(id, "dead", 0.01)
    time.sleep(2 * LEASE)
    sweeps.janitor.sweep()
    assert sweeps.sent == [Queued(id, 5)]


def test_what_has_expired_is_deleted_and_then_forgotten(client: redis.Redis) -> None:
    sweeps = Sweeps(client, keep_seconds=0.01)
    id = sweeps.submit()
    sweeps.store.cancel(id)
    time.sleep(0.02)
    sweeps.janitor.sweep()
    assert sweeps.deleted == [id]
    assert sweeps.store.expired() == []
    with pytest.raises(NotFoundError):
        sweeps.store.get(id)


def test_what_can_not_be_deleted_is_not_forgotten(client: redis.Redis) -> None:
    def broken(id: str) -> None:
        raise OSError("no answer")

    sweeps = Sweeps(client, keep_seconds=0.01)
    janitor = Janitor(sweeps.store, sweeps.sent.append, list, broken, LEASE)
    id = sweeps.submit()
    sweeps.store.cancel(id)
    time.sleep(0.02)
    with pytest.raises(OSError, match="no answer"):
        janitor.sweep()
    assert [record.id for record in sweeps.store.expired()] == [id]


def test_a_stale_attempt_can_not_spoil_a_chain(client: redis.Redis, tmp_path: Any) -> None:
    from tests.workers.test_chains import stopped_at

    store, blobs = SubmittingStore(client, JobRecord), Blobs(tmp_path)
    early, late = stopped_at(2), stopped_at(9)
    id = store.submit(new_job())[0].id
    keepers = []
    for chain in (early, late):
        record = store.claim_next(Claim("w", 0.001))
        assert record is not None
        keepers.append(Keeper(store, blobs, record))
        time.sleep(0.003)
        keepers[-1].save(chain)
        store.requeue_expired()
    stale, current = keepers
    stale.save(early)
    third = store.claim_next(Claim("w", 10))
    assert third is not None
    assert third.saved_attempt == 2
    found = Keeper(store, blobs, third).load("")
    assert found is not None
    assert list(found.steps) == list(late.steps) != list(early.steps)
    current.drop()
    assert not blobs.exists(f"chains/{id}/2.safetensors")
    current.save(late)
    assert not blobs.exists(f"chains/{id}/2.safetensors")


def test_calls_are_repeated_until_the_store_answers() -> None:
    answers: list[Callable[[], str]] = []

    def away() -> str:
        raise redis.ConnectionError("away")

    answers = [away, away, lambda: "here"]
    assert patiently(lambda: answers.pop(0)()) == "here"
    with pytest.raises(redis.ConnectionError):
        patiently(away, seconds=0.0)


def test_the_second_signal_ends_the_process_at_once() -> None:
    done: list[Any] = []
    shutdown = Shutdown(lambda: done.append("stop"), 60, done.append)
    shutdown(sig="SIGTERM")
    assert done == ["stop"]
    shutdown(sig="SIGTERM")
    assert done == ["stop", 1]


def test_a_worker_that_is_too_slow_to_stop_leaves() -> None:
    left = threading.Event()
    shutdown = Shutdown(lambda: None, 0.01, lambda status: left.set())
    shutdown()
    assert left.wait(10)


def test_a_worker_that_has_handed_all_back_may_take_its_time_to_end() -> None:
    left = threading.Event()
    shutdown = Shutdown(lambda: None, 0.2, lambda status: left.set())
    shutdown.done()  # before any signal: nothing to end
    shutdown()
    shutdown.done()
    assert not left.wait(0.5)
