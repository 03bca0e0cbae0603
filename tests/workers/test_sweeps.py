"""The janitor, the lanes, patience with the store, and what a signal does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from service.contract.errors import NotFoundError
from service.contract.jobs import Generate, JobRecord
from service.contract.records import Status
from service.pictures.blobs import Blobs
from service.store.store import RecordStore
from service.store.types import Queued
from workers.chains.keeper import Keeper
from workers.jobs.lanes import Lanes
from workers.upkeep.janitor import Janitor
from workers.upkeep.patience import patiently
from workers.upkeep.shutdown import Shutdown

LEASE = 0.3


def new_job(model: str = "toy@1") -> JobRecord:
    return JobRecord.new(Generate(model=model, n=1, seed=7, steps=3, step_size=1.0, noise=0.0, refine=True), [])


class Away(RecordStore[JobRecord]):
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
        self.room: tuple[int, list[str]] = (0, [])
        self.janitor = Janitor(self.store, self.sent.append, lambda: self.room, self.deleted.append, LEASE)

    def submit(self, lane: str = "m") -> str:
        return self.store.submit(new_job(), lane=lane)[0].id


@pytest.fixture
def sweeps(client: redis.Redis) -> Sweeps:
    return Sweeps(client)


def test_what_waits_is_sent_again_if_there_is_room_for_it(sweeps: Sweeps) -> None:
    first, second, third = (sweeps.submit(lane) for lane in ("full", "m", "m"))
    sweeps.janitor.sweep()
    assert sweeps.sent == []
    sweeps.room = (1, ["full"])
    sweeps.janitor.sweep()
    assert sweeps.sent == [Queued(second, 5)]
    sweeps.sent.clear()
    sweeps.room = (9, ["full"])
    sweeps.janitor.sweep()
    assert {queued.id for queued in sweeps.sent} == {second, third}
    assert first not in {queued.id for queued in sweeps.sent}


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
    janitor = Janitor(sweeps.store, sweeps.sent.append, lambda: (0, []), broken, LEASE)
    id = sweeps.submit()
    sweeps.store.cancel(id)
    time.sleep(0.02)
    with pytest.raises(OSError, match="no answer"):
        janitor.sweep()
    assert [record.id for record in sweeps.store.expired()] == [id]


def test_lanes_share_the_room() -> None:
    lanes = Lanes(16)

    def enter(model: str) -> bool:
        return lanes.enter(lambda full: None if f"{model}@1" in full else new_job(f"{model}@1")) is not None

    assert [sum(enter(model) for _ in range(20)) for model in "abcdef"] == [8, 4, 2, 1, 1, 0]
    assert lanes.room()[0] == 0
    lanes.leave(new_job("a@1"))
    assert lanes.room() == (1, [f"{model}@1" for model in "abcde"])
    assert enter("f")


def test_a_job_that_ends_makes_place_for_the_next() -> None:
    lanes, job = Lanes(2), new_job("a@1")
    seen: list[Sequence[str]] = []

    def claim(full: Sequence[str]) -> JobRecord:
        seen.append(full)
        return job

    assert lanes.enter(claim) is job
    assert lanes.enter(lambda full: new_job("b@1"))
    assert lanes.enter(claim) is None  # full
    assert lanes.enter(claim, leaving=job) is job
    lanes.leave(job)
    assert lanes.room()[0] == 0
    with pytest.raises(OSError, match="away"):
        lanes.enter(_away, leaving=job)
    assert lanes.room()[0] == 0
    lanes.leave(job)
    assert seen == [[], ["b@1"]]
    assert lanes.room() == (1, ["b@1"])


def test_claims_do_not_wait_for_each_other_while_there_is_room() -> None:
    lanes, both = Lanes(16), threading.Barrier(2)

    def claim(_: object) -> JobRecord:
        both.wait(10.0)  # only if the other is here, too
        return new_job("a@1")

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: lanes.enter(claim), range(2)))
    assert all(found)
    assert lanes.room()[0] == 14


def test_claims_at_the_same_time_do_not_take_more_than_their_lane_may_have() -> None:
    lanes, threads = Lanes(24), 40
    begin, record = threading.Barrier(threads), new_job("a@1")

    def claim(full: Sequence[str]) -> JobRecord | None:
        time.sleep(0.002)  # the store's answer takes a while
        return None if record.model in full else record

    def take(_: int) -> bool:
        begin.wait(10.0)
        return lanes.enter(claim) is not None

    with ThreadPoolExecutor(threads) as pool:
        assert sum(pool.map(take, range(threads))) == 12
    assert lanes.room() == (12, ["a@1"])


def _away(_: object) -> None:
    raise OSError("away")


def test_a_stale_attempt_can_not_spoil_a_chain(client: redis.Redis, tmp_path: Any) -> None:
    from tests.workers.test_chains import stopped_at

    store, blobs = RecordStore(client, JobRecord), Blobs(tmp_path)
    early, late = stopped_at(2), stopped_at(9)
    id = store.submit(new_job())[0].id
    keepers = []
    for chain in (early, late):
        record = store.claim_next("w", 0.001)
        assert record is not None
        keepers.append(Keeper(store, blobs, record))
        time.sleep(0.003)
        keepers[-1].save(chain)
        store.requeue_expired()
    stale, current = keepers
    stale.save(early)
    third = store.claim_next("w", 10)
    assert third is not None
    assert third.saved_attempt == 2
    found = Keeper(store, blobs, third).load()
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
