"""Workers that differ in the models that they can load, and models whose files are replaced while jobs run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from service.contract.records import Status
from service.settings import Settings
from service.store.store import LACK_SECONDS
from service.store.types import Queued
from tests.workers.conftest import Bench, make_bench, publish_tiny
from tests.workers.test_inference import eventually, files
from tests.workers.test_worker_recovery import LONG, saved
from workers.jobs.run import OTHER_WEIGHTS, STARTED_AGAIN


@pytest.fixture
def poor(settings: Settings, client: redis.Redis, tmp_path: Path) -> Iterator[Bench]:
    """A worker that has another folder of models, with one called ``mine`` alone."""
    publish_tiny(tmp_path / "poor", "mine")
    elsewhere = {"checkpoints_dir": tmp_path / "poor", "data_dir": tmp_path / "nothing"}
    bench = make_bench(settings.model_copy(update=elsewhere), client, "poor")
    bench.start()
    yield bench
    bench.stop()


def alive(*benches: Bench) -> None:
    """Until the workers have announced themselves."""
    for bench in benches:
        eventually(lambda bench=bench: bench.presence.workers().get(bench.name))  # type: ignore[misc]


def test_a_worker_that_lacks_a_model_leaves_the_job_to_another(bench: Bench, poor: Bench) -> None:
    alive(bench, poor)
    record = bench.submit(n=1, steps=2)
    poor.worker.run()
    assert bench.store.get(record.id).status is Status.QUEUED
    assert poor.sent == [Queued(record.id, 5)]
    poor.worker.run()  # it takes no more jobs of this model for a while
    assert (bench.store.get(record.id).attempt, poor.worker.waiting()) == (1, [])
    poor.janitor.sweep()  # another worker has the model: nothing fails
    assert bench.worker.waiting() == [Queued(record.id, 5)]
    bench.worker.run()
    done = bench.store.get(record.id)
    assert (done.status, done.attempt, done.warnings) == (Status.SUCCEEDED, 2, [])


def test_forty_jobs_all_succeed_beside_a_worker_that_lacks_their_model(bench: Bench, poor: Bench) -> None:
    alive(bench, poor)
    ids = [bench.submit(n=1, steps=1).id for _ in range(40)]
    poor.worker.run()
    bench.worker.run()
    assert {bench.store.get(id).status for id in ids} == {Status.SUCCEEDED}


@pytest.mark.parametrize("damage", ["gone", "cut", "card"])
def test_a_worker_whose_files_are_damaged_leaves_the_job_to_another(bench: Bench, poor: Bench, damage: str) -> None:
    folder = poor.settings.checkpoints_dir / "tiny" / "1"
    shutil.copytree(bench.settings.checkpoints_dir / "tiny" / "1", folder)
    if damage == "gone":
        (folder / "model.safetensors").unlink()
    else:
        (folder / ("card.json" if damage == "card" else "model.safetensors")).write_bytes(b"{")
    alive(bench, poor)
    record = bench.submit(n=1, steps=2)
    poor.worker.run()
    bench.worker.run()
    assert bench.store.get(record.id).status is Status.SUCCEEDED


def test_a_job_fails_when_no_living_worker_can_load_its_model(bench: Bench, poor: Bench) -> None:
    alive(bench, poor)
    record = bench.submit(n=1, steps=2)
    shutil.rmtree(bench.settings.checkpoints_dir / "tiny")
    other = poor.submit(model="mine", n=1, steps=1)
    poor.worker.run()
    assert poor.store.get(other.id).status is Status.SUCCEEDED
    assert bench.store.get(record.id).status is Status.QUEUED
    bench.worker.run()
    failed = bench.store.get(record.id)
    assert failed.status is Status.FAILED
    assert failed.error is not None
    assert failed.error.kind == "unusable-model"
    assert "no worker can load tiny@1: there is no model 'tiny@1'" in failed.error.detail


def test_a_job_fails_when_the_last_worker_that_had_its_model_has_gone(bench: Bench, poor: Bench) -> None:
    alive(bench, poor)
    record = bench.submit(n=1, steps=2)
    poor.worker.run()
    bench.heart.stop()  # which takes it off the list of the living
    poor.janitor.sweep()
    failed = poor.store.get(record.id)
    assert failed.status is Status.FAILED
    assert failed.error is not None
    assert failed.error.kind == "unusable-model"


def test_a_repaired_model_is_served_again(bench: Bench, client: redis.Redis) -> None:
    folder = bench.settings.checkpoints_dir / "tiny" / "1"
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + b"?")
    assert bench.run(n=1, steps=1).status is Status.FAILED
    (folder / "model.safetensors").write_bytes(weights)
    (noted,) = client.keys("*:lacks:*")
    assert 0 < client.ttl(noted) <= LACK_SECONDS
    client.delete(noted)  # as when its time is over
    assert bench.run(n=1, steps=1).status is Status.SUCCEEDED


@pytest.mark.parametrize("same", [True, False])
def test_a_chain_goes_on_with_the_weights_that_began_it_alone(
    bench: Bench, settings: Settings, client: redis.Redis, tmp_path: Path, same: bool
) -> None:
    publish_tiny(tmp_path / "anew", slope=1.0 if same else 2.0)
    changed = settings.model_copy(update={"checkpoints_dir": tmp_path / "anew"})
    job = saved(bench)
    bench.worker.drain(0)
    assert job.end() is Status.QUEUED
    other = make_bench(changed, client, "worker-2")
    other.start()
    try:
        other.worker.run()
        record = other.store.get(job.id)
        assert record.status is Status.SUCCEEDED
        assert (OTHER_WEIGHTS in record.warnings, STARTED_AGAIN in record.warnings) == (not same, False)
        assert files(other, job.id, 4) == files(other, other.run(**LONG).id, 4)
    finally:
        other.stop()
