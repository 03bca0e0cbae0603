"""The network before Redis is slow, breaks, and falls silent: all jobs end, once, with the same bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from benchmarks.cluster import Cluster, wait_for
from service.contract.records import Status
from tests.integration.redis_proxy import RedisProxy
from tests.workers.conftest import publish_tiny

pytestmark = pytest.mark.timeout(180)

SEEDS = (1, 2, 3)
LEASE_SECONDS = 4.0  # a beat on a busy machine may take several slow round trips
BODY = {"model": "tiny", "n": 8, "steps": 100, "noise": 0.01}
SOCKET_SECONDS = 5.0
"""How long the store waits for an answer of Redis; once more on a new connection."""


class Network:
    """An API and two workers whose connections to Redis lead through a proxy; the test's own do not."""

    def __init__(self, cluster: Cluster, proxy: RedisProxy) -> None:
        self.cluster, self.proxy = cluster, proxy
        self.workers = [cluster.start("worker") for _ in range(2)]
        self.api = cluster.start("api")
        cluster.wait_until_ready(2)
        self.expected = {seed: cluster.images(cluster.finished(self.submit(seed))) for seed in SEEDS}

    def submit(self, seed: int) -> str:
        return self.cluster.submit(**BODY, seed=seed)

    def running(self) -> dict[str, int]:
        """Jobs in mid-chain, with their seeds: each has done steps, and none has ended."""
        ids = {self.submit(seed): seed for seed in SEEDS}

        def underway() -> bool:
            records = [self.cluster.jobs.get(id) for id in ids]
            return any(((record.progress and record.progress.step) or 0) > 5 for record in records)

        wait_for(underway, "a job in mid-chain", 30)
        return ids

    def all_end_well(self, ids: dict[str, int]) -> None:
        """Each job succeeds, is committed once, and has the images of an undisturbed run."""
        for id, seed in ids.items():
            record = self.cluster.finished(id)
            assert record.status is Status.SUCCEEDED, record.error
            assert self.cluster.images(record) == self.expected[seed]
            entries: Any = self.cluster.client.xrange(self.cluster.jobs.events_key(id))
            ends = [fields for _, fields in entries if Status.SUCCEEDED in fields["data"]]
            assert len(ends) == 1, entries
        assert [part.poll() for part in (self.api, *self.workers)] == [None] * 3


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("network")
    publish_tiny(folder / "checkpoints")
    with RedisProxy(target=0) as proxy:
        settings = {
            "redis_url": f"redis://127.0.0.1:{proxy.port}/0",
            "checkpoints_dir": folder / "checkpoints",
            "device": "cpu",
            "torch_threads": 1,
            "max_rows": 8,
            "lease_seconds": LEASE_SECONDS,
            "heartbeat_seconds": 0.2,
            "checkpoint_seconds": 0.2,
        }
        cluster = Cluster(folder, settings)
        proxy.target = cluster.redis_port
        try:
            cluster.start_database()
            yield Network(cluster, proxy)
        finally:
            cluster.close()


def test_every_round_trip_takes_400_ms(network: Network) -> None:
    network.proxy.delay = 0.2
    try:
        begin = time.monotonic()
        ids = {network.submit(seed): seed for seed in SEEDS}
        assert time.monotonic() - begin > len(SEEDS) * 0.4
        network.all_end_well(ids)
    finally:
        network.proxy.delay = 0.0
    assert {network.cluster.jobs.get(id).attempt for id in ids} == {1}  # nobody has lost a lease


def refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["type"]) == (503, "/errors/unavailable"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0


def test_redis_can_not_be_reached_for_three_seconds(network: Network) -> None:
    http, ids = network.cluster.http, network.running()
    (some, *_) = ids
    body, key = BODY | {"seed": SEEDS[0]}, {"Idempotency-Key": "sent while away"}
    with network.proxy.away():
        begin = time.monotonic()
        refused(http.post("/v1/generate", json=body, headers=key))
        refused(http.post("/v1/generate", json=body, headers={**key, "Prefer": "wait=5"}))
        for path in (f"/v1/jobs/{some}", "/v1/jobs", f"/v1/jobs/{some}/events", "/v2/health/ready", "/metrics"):
            refused(http.get(path))
        refused(http.post(f"/v1/jobs/{some}/cancel"))
        assert http.get("/v2/health/live").status_code == 200
        assert time.monotonic() - begin < 2.0
        time.sleep(max(0.0, begin + LEASE_SECONDS + 1 - time.monotonic()))  # all leases have run out
    answers = [http.post("/v1/generate", json=body, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    network.all_end_well(ids | {answers[0].json()["id"]: SEEDS[0]})


def test_connections_are_cut_again_and_again(network: Network) -> None:
    http, ids = network.cluster.http, network.running()
    statuses, cut = [], 0
    for _ in range(4):
        for seed in SEEDS:
            cut += network.proxy.cut()
            begin = time.monotonic()
            answer = http.post("/v1/generate", json=BODY | {"seed": seed})
            statuses.append(answer.status_code)
            if answer.status_code == 202:
                ids[answer.json()["id"]] = seed
            else:
                refused(answer)
            time.sleep(max(0.0, begin + 0.3 - time.monotonic()))
    assert cut > 20
    assert statuses.count(202) > len(statuses) / 2
    network.all_end_well(ids)


def test_connections_fall_silent_without_an_end(network: Network) -> None:
    ids = network.running()
    assert network.proxy.silence() > 3
    begin = time.monotonic()
    ids[network.submit(SEEDS[0])] = SEEDS[0]
    assert time.monotonic() - begin < 3 * SOCKET_SECONDS
    network.all_end_well(ids)
    answer = network.cluster.http.post("/v1/generate", json=BODY | {"seed": SEEDS[1]}, headers={"Prefer": "wait=30"})
    assert answer.json()["status"] == "succeeded"
    assert time.monotonic() - begin < 30
