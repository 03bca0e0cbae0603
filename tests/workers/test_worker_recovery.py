"""Inference workers that are lost, told to stop, or meet a full disk: the job goes on, or fails with its reason."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
import torch

from service.contract.records import Status
from service.pictures.blobs import Blobs
from service.settings import Settings
from service.store.types import Queued
from tests.workers.conftest import Bench, make_bench, publish_tiny
from tests.workers.recording import RecordingLane
from tests.workers.test_inference import InThread, eventually, files
from workers.jobs.run import STARTED_AGAIN

LONG = {"n": 4, "steps": 150, "step_size": 0.1, "noise": 0.02, "seed": 12}


class FailingBlobs(Blobs):
    """A disk that is full for some keys."""

    def __init__(self, settings: Settings, full: Callable[[str], bool]) -> None:
        super().__init__(settings.blobs_dir)
        self.full = full

    def put(self, key: str, data: bytes) -> None:
        if self.full(key):
            raise OSError(errno.ENOSPC, "No space left on device")
        super().put(key, data)


@pytest.fixture
def other(settings: Settings, client: redis.Redis) -> Iterator[Bench]:
    """A second worker."""
    bench = make_bench(settings, client, "worker-2")
    bench.start()
    yield bench
    bench.stop()


def saved(bench: Bench, **request: Any) -> InThread:
    """A job in mid-chain, with its chain saved."""
    job = InThread(bench, **{**LONG, **request})
    eventually(lambda: bench.store.get(job.id).saved_attempt == 1)
    assert bench.store.get(job.id).status is Status.RUNNING
    return job


def test_a_job_goes_on_where_its_lost_worker_had_saved_it(bench: Bench, other: Bench) -> None:
    expected = files(other, other.run(**LONG).id, 4)
    advanced = other.engine.rows_advanced
    job = saved(bench)
    bench.worker.drain(0)
    assert job.end() is Status.QUEUED
    assert other.store.claim(job.id, "a-worker-that-dies", 0.01) is not None
    eventually(lambda: other.store.requeue_expired())
    other.worker.run()
    record = other.store.get(job.id)
    assert (record.status, record.attempt) == (Status.SUCCEEDED, 3)
    assert not [warning for warning in record.warnings if "refinement steps" not in warning]
    assert files(other, job.id, 4) == expected
    assert other.engine.rows_advanced - advanced < advanced
    assert not other.blobs.exists(f"chains/{job.id}/1.safetensors")


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_saved_chain_that_is_no_good_starts_the_job_again(bench: Bench, other: Bench, damage: str) -> None:
    expected = files(other, other.run(**LONG).id, 4)
    job = saved(bench)
    bench.worker.drain(0)
    assert job.end() is Status.QUEUED
    key = f"chains/{job.id}/1.safetensors"
    if damage == "cut":
        other.blobs.put(key, other.blobs.get(key)[:-7])
    else:
        other.blobs.delete_prefix(key)
    other.worker.run()
    record = other.store.get(job.id)
    assert record.status is Status.SUCCEEDED
    assert STARTED_AGAIN in record.warnings
    assert files(other, job.id, 4) == expected


def test_a_worker_that_is_told_to_stop_hands_its_jobs_back(bench: Bench, other: Bench) -> None:
    expected = files(other, other.run(**LONG).id, 4)
    job = saved(bench)
    waiting = bench.submit(n=1, steps=1)
    bench.worker.drain(0)
    assert job.end() is Status.QUEUED
    assert bench.sent == [Queued(job.id, 5)]
    assert (bench.worker.draining, bench.worker.waiting()) == (True, [])
    bench.worker.run()  # a late message
    assert bench.store.get(waiting.id).status is Status.QUEUED
    other.worker.run()
    record = other.store.get(job.id)
    assert (record.status, record.attempt) == (Status.SUCCEEDED, 2)
    assert STARTED_AGAIN not in record.warnings
    assert files(other, job.id, 4) == expected
    assert other.store.get(waiting.id).status is Status.SUCCEEDED


def test_a_job_that_is_nearly_done_may_finish(bench: Bench) -> None:
    job = InThread(bench, n=1, steps=20)
    eventually(lambda: bench.store.get(job.id).status is Status.RUNNING)
    bench.worker.drain(60)
    assert job.end() is Status.SUCCEEDED
    eventually(lambda: not bench.engine.is_alive())


def test_a_full_disk_fails_the_job_with_its_reason(settings: Settings, client: redis.Redis) -> None:
    blobs = FailingBlobs(settings, lambda key: key.startswith("jobs/"))
    bench = make_bench(settings, client, "worker-1", blobs)
    bench.start()
    record = bench.run(n=2, steps=2)
    assert record.status is Status.FAILED
    assert record.error is not None
    assert record.error.kind == "storage"
    assert "No space left on device" in record.error.detail
    blobs.full = lambda key: False
    assert bench.run(n=2, steps=2).status is Status.SUCCEEDED
    bench.stop()


def test_a_disk_without_room_for_chains_does_no_harm(settings: Settings, client: redis.Redis) -> None:
    bench = make_bench(settings, client, "worker-1", FailingBlobs(settings, lambda key: key.startswith("chains/")))
    bench.start()
    record = bench.run(**LONG)
    assert (record.status, record.saved_attempt) == (Status.SUCCEEDED, None)
    bench.stop()


def test_a_slow_model_takes_half_of_the_room(settings: Settings, client: redis.Redis) -> None:
    publish_tiny(settings.checkpoints_dir, "slow")
    bench = make_bench(settings, client, "worker-1")
    bench.start()
    gate = threading.Event()

    def held(model: Any, job: Any):  # type: ignore[no-untyped-def]
        assert gate.wait(30)
        return (yield from original(model, job))

    with bench.residency.use("slow@1") as resident:
        original = resident.model.tasks["generate"]
        resident.model = replace(resident.model, tasks={"generate": held})
    slow = [bench.submit(model="slow", steps=1, priority=9).id for _ in range(20)]
    # The first task holds the engine's thread; the worker's threads that wait for it must not be all of them.
    threads = [threading.Thread(target=bench.worker.run) for _ in range(settings.worker_threads or 0)]
    for thread in threads:
        thread.start()
    eventually(lambda: bench.heart.active == 8)
    assert bench.worker.waiting() == []
    quick = bench.submit(steps=1).id
    assert [queued.id for queued in bench.worker.waiting()] == [quick]
    late = threading.Thread(target=bench.worker.run)
    late.start()
    eventually(lambda: bench.store.get(quick).status is Status.RUNNING)
    gate.set()
    for thread in [*threads, late]:
        thread.join(60)
    assert {bench.store.get(id).status for id in [*slow, quick]} == {Status.SUCCEEDED}
    assert not client.exists("{coopserve:job}:held:worker-1")
    bench.stop()


class BreakingLane(RecordingLane):
    """A device that is lost when the first step is recorded."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.fault = "CUDA error: an illegal memory access was encountered"
        raise torch.AcceleratorError(self.fault)


def test_jobs_of_a_worker_that_lost_its_device_are_done_by_another(
    settings: Settings, client: redis.Redis, other: Bench
) -> None:
    expected = files(other, other.run(**LONG).id, 4)
    bench = make_bench(settings, client, "worker-1", lane=BreakingLane())
    bench.start()
    job = InThread(bench, **LONG)
    assert job.end() is Status.QUEUED  # a process would be gone by now, and its lease would run out
    assert bench.worker.draining
    other.worker.run()
    record = other.store.get(job.id)
    assert (record.status, record.error) == (Status.SUCCEEDED, None)
    assert files(other, job.id, 4) == expected
    bench.stop()
