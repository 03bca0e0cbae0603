"""Processes are killed, suspended and told to stop in mid-work: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import json
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cluster import Cluster, Process, wait_for
from service.contract.jobs import JobRecord
from service.contract.records import Status
from workers.jobs.run import STARTED_AGAIN

pytestmark = pytest.mark.timeout(300)

LEASE_SECONDS = 2.0
DRAIN_SECONDS = 2.0
LONG = {"model": "fashion-ccoopnets", "label": "Bag", "n": 8, "steps": 200, "step_size": 0.1, "noise": 0.01}
"""A request that takes a while, with noise in every step."""


@pytest.fixture(scope="module")
def cluster(clothes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    settings = {
        "checkpoints_dir": clothes,
        "device": "cpu",
        "torch_threads": 1,
        "engine_threads": 1,
        "max_rows": 8,  # so that it takes longer than a worker waits for it
        "lease_seconds": LEASE_SECONDS,
        "heartbeat_seconds": 0.2,
        "checkpoint_seconds": 0.2,
        "drain_seconds": DRAIN_SECONDS,
    }
    cluster = Cluster(folder, settings)
    try:
        cluster.start_database()
        yield cluster
    finally:
        cluster.close()


class Pair:
    """Two workers behind one API."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.api = cluster.start("api")
        self.workers: list[Process] = []
        self._expected: dict[int, list[bytes]] = {}

    def mend(self) -> None:
        """Start what an earlier test has ended."""
        if self.api.poll() is not None:
            self.api = self.cluster.start("api")
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < 2:
            self.workers.append(self.cluster.start("worker"))
            self.cluster.wait_until_ready(len(self.workers))
        self.cluster.wait_until_ready(2)

    def expected(self, seed: int) -> list[bytes]:
        """The images of an unbroken run."""
        if seed not in self._expected:
            record = self.cluster.finished(self.cluster.submit(**LONG, seed=seed))
            assert (record.status, record.attempt) == (Status.SUCCEEDED, 1)
            self._expected[seed] = self.cluster.images(record)
        return self._expected[seed]

    def underway(self, seed: int) -> tuple[str, Process]:
        """A job in mid-chain, with its chain saved, and the worker that holds it."""
        id = self.cluster.submit(**LONG, seed=seed)

        def saved() -> bool:
            record = self.cluster.jobs.get(id)
            assert not record.status.terminal, "it was too fast"
            return record.saved_attempt == record.attempt and record.attempt > 0

        wait_for(saved, "a saved chain")
        return id, self.holder(id)

    def holder(self, id: str) -> Process:
        pid = wait_for(lambda: self.cluster.worker_of(id), "a worker")
        return next(worker for worker in self.workers if worker.pid == pid)

    def ends_well(self, id: str, seed: int) -> JobRecord:
        """The job's record once it has succeeded: committed once, with the bytes of an unbroken run."""
        record = self.cluster.finished(id)
        assert record.status is Status.SUCCEEDED, record.error
        assert STARTED_AGAIN not in record.warnings
        assert self.cluster.images(record) == self.expected(seed)
        ends = [event for event in events(self.cluster, id) if event["status"] in ("succeeded", "failed", "cancelled")]
        assert len(ends) == 1
        return record


def events(cluster: Cluster, id: str) -> list[dict[str, Any]]:
    """The status events of a job."""
    entries: Any = cluster.client.xrange(cluster.jobs.events_key(id))
    return [json.loads(fields["data"]) for _, fields in entries if fields["event"] == "status"]


@pytest.fixture(scope="module")
def parts(cluster: Cluster) -> Pair:
    return Pair(cluster)


@pytest.fixture
def pair(parts: Pair) -> Pair:
    """Both workers and the API are alive."""
    parts.mend()
    return parts


def test_a_killed_workers_job_goes_on_elsewhere_within_ten_seconds(pair: Pair) -> None:
    expected = pair.expected(1)
    id, worker = pair.underway(1)
    worker.kill()
    wait_for(lambda: pair.cluster.jobs.get(id).attempt == 2, "another attempt", 10)
    record = pair.ends_well(id, 1)
    assert (record.attempt, pair.cluster.images(record)) == (2, expected)
    assert not pair.cluster.settings.blobs_dir.joinpath("chains", id).exists()


def test_a_worker_that_slept_past_its_lease_can_not_commit(pair: Pair) -> None:
    pair.expected(2)
    id, worker = pair.underway(2)
    worker.send_signal(signal.SIGSTOP)
    wait_for(lambda: pair.cluster.jobs.get(id).attempt == 2, "another attempt", 10)
    record = pair.ends_well(id, 2)
    worker.send_signal(signal.SIGCONT)
    after = pair.cluster.submit(**LONG | {"steps": 2}, seed=3)
    assert pair.cluster.finished(after).status is Status.SUCCEEDED
    time.sleep(1.0)  # in which the woken worker may try
    assert pair.cluster.jobs.get(id) == record
    pair.ends_well(id, 2)
    assert worker.poll() is None


def test_a_worker_that_is_told_to_stop_hands_its_jobs_back(pair: Pair) -> None:
    pair.expected(2)
    id, worker = pair.underway(2)
    worker.terminate()
    assert worker.wait(DRAIN_SECONDS + 30) == 0
    wait_for(lambda: pair.cluster.jobs.get(id).attempt == 2, "another attempt", LEASE_SECONDS)
    assert [event["status"] for event in events(pair.cluster, id)][:4] == ["queued", "running", "queued", "running"]
    pair.ends_well(id, 2)


def test_a_second_sigterm_ends_a_worker_at_once(pair: Pair) -> None:
    id, worker = pair.underway(2)
    for _ in range(2):
        worker.terminate()
        time.sleep(0.3)
    assert worker.wait(2) == 1
    assert pair.ends_well(id, 2).attempt == 2


def test_the_database_is_killed_and_started_again_under_load(pair: Pair) -> None:
    cluster = pair.cluster
    ids = [(cluster.submit(**LONG, seed=seed), seed) for seed in (1, 2, 1, 2)]
    wait_for(lambda: all(cluster.worker_of(id) for id, _ in ids), "all jobs to run")
    cluster.database.kill()
    cluster.database.wait()
    time.sleep(LEASE_SECONDS + 1)  # all leases have run out when it is back
    cluster.start_database()
    for id, seed in ids:
        record = pair.ends_well(id, seed)
        assert record.attempt == 1  # its worker was alive, and kept it
    assert all(worker.poll() is None for worker in pair.workers)


def test_the_api_is_killed_and_started_again(pair: Pair) -> None:
    id, _ = pair.underway(1)
    pair.api.kill()
    pair.api.wait()
    pair.mend()
    assert pair.ends_well(id, 1).attempt == 1


@contextmanager
def full_disk(*processes: Process) -> Iterator[None]:
    """No file of these processes may get longer than some bytes, as if there were no room."""
    least, most = 100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    for process in processes:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (least, most))
    yield
    for process in processes:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))


def test_without_room_for_images_jobs_fail_with_their_reason_and_nothing_else_does(pair: Pair) -> None:
    cluster, short = pair.cluster, LONG | {"n": 2, "steps": 2}
    before = cluster.finished(cluster.submit(**short))
    images = cluster.images(before)
    with full_disk(*pair.workers):
        records = [cluster.finished(cluster.submit(**short)) for _ in range(4)]
        assert cluster.images(before) == images
    for record in records:
        assert (record.status, record.outputs) == (Status.FAILED, [])
        assert record.error is not None
        assert record.error.kind == "storage"
        assert "File too large" in record.error.detail
    upload = {"file": ("bag.png", images[0], "image/png")}
    with full_disk(pair.api):
        answer = cluster.http.post("/v1/images", files=upload)
        assert (answer.status_code, answer.json()["type"]) == (503, "/errors/unavailable")
    assert cluster.http.post("/v1/images", files=upload).status_code == 201
    assert cluster.images(cluster.finished(cluster.submit(**short, seed=before.seed))) == images
    assert not list(cluster.settings.blobs_dir.rglob(".*"))  # no drafts are left
    assert all(process.poll() is None for process in [pair.api, *pair.workers])


def test_while_its_workers_drain_it_is_not_ready(pair: Pair) -> None:
    """The last test: it stops the workers that the others need."""
    cluster = pair.cluster
    id = pair.underway(1)[0]
    for worker in pair.workers:
        worker.terminate()
    wait_for(lambda: cluster.http.get("/v2/health/ready").status_code == 503, "the end of readiness", 10)
    assert any(worker.poll() is None for worker in pair.workers)
    assert cluster.http.get("/v2/health/ready").json()["missing"] == ["inference worker"]
    assert cluster.http.get("/v2/health/live").status_code == 200
    after = cluster.submit(**LONG, seed=2)
    for worker in pair.workers:
        worker.wait(DRAIN_SECONDS + 30)
    assert cluster.http.get("/v2/health/ready").status_code == 503
    assert [cluster.jobs.get(waiting).status for waiting in (id, after)] == [Status.QUEUED, Status.QUEUED]


def test_a_worker_that_is_told_to_stop_while_it_loads_a_model_ends_cleanly(checkpoints: Path, tmp_path: Path) -> None:
    """A model may take longer to load than the grace period, and a thread inside torch can't be ended."""
    settings = {"checkpoints_dir": checkpoints, "device": "cpu", "drain_seconds": 1.0, "heartbeat_seconds": 0.1}
    cluster = Cluster(tmp_path, settings)
    try:
        cluster.start_database()
        worker = cluster.start("worker")
        # Ready with one model; the next ones are loaded once the engine has rested for two seconds.
        wait_for(lambda: any(w["state"] == "ready" for w in cluster.presence.workers().values()), "a ready worker")
        time.sleep(2.3)
        worker.terminate()
        assert worker.wait(30) == 0, cluster.output("worker")[-2000:]
    finally:
        cluster.close()
