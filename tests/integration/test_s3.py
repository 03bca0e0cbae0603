"""Several workers that share nothing but a database and an object store: a real S3 server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.cluster import Cluster, Process, wait_for
from service.contract.records import Status
from service.pictures.blobs import Blobs
from service.pictures.places import job_chain, job_image
from tests.integration.object_store import ObjectStore, object_store

LONG = {"model": "fashion-ccoopnets", "label": "Bag", "n": 8, "steps": 200, "step_size": 0.1, "noise": 0.01, "seed": 5}
"""A request that takes a while, with noise in every step."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("s3") / "data") as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        yield store


@pytest.fixture(scope="module")
def blobs(store: ObjectStore) -> Blobs:
    return Blobs("s3://pictures/of/tests")


@pytest.fixture(scope="module")
def hosts(
    store: ObjectStore, clothes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Cluster, list[Process]]]:
    """An API and two workers; each has a data directory of its own, as on different machines."""
    folder = tmp_path_factory.mktemp("hosts")
    settings = {
        "blobs_url": "s3://pictures/of/tests",
        "checkpoints_dir": clothes,
        "device": "cpu",
        "torch_threads": 1,
        "exact": False,  # starts sooner; jobs whose bytes are compared here run alone
        "worker_threads": 2,
        "lease_seconds": 2.0,
        "heartbeat_seconds": 0.2,
        "checkpoint_seconds": 0.2,
    }
    cluster = Cluster(folder, settings)
    try:
        cluster.start_database()
        cluster.start("api", data_dir=folder / "a")
        workers = [cluster.start("worker", data_dir=folder / host) for host in ("b", "c")]
        cluster.wait_until_ready(workers=2)
        yield cluster, workers
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def cluster(hosts: tuple[Cluster, list[Process]]) -> Cluster:
    return hosts[0]


def test_an_object_store_does_what_a_directory_does(blobs: Blobs) -> None:
    assert blobs.folders("own") == []
    blobs.put("own/a/0.png", b"first")
    blobs.put("own/a/0.png", b"second")
    blobs.put("own/b/c/1.png", b"")
    assert (blobs.get("own/a/0.png"), blobs.get("own/b/c/1.png")) == (b"second", b"")
    assert [blobs.exists(key) for key in ("own/a/0.png", "own/a", "own/b/c/2.png")] == [True, False, False]
    assert sorted(blobs.folders("own")) == ["a", "b"]
    for _ in range(2):
        blobs.delete_prefix("own/b")
        blobs.delete_prefix("own/a/0.png")
    assert not blobs.exists("own/a/0.png")
    with pytest.raises(FileNotFoundError):
        blobs.get("own/b/c/1.png")


def test_what_another_process_adds_and_removes_is_seen_at_once(blobs: Blobs) -> None:
    other = Blobs("s3://pictures/of/tests/shared")
    assert blobs.folders("shared") == []
    other.put("x/0.png", b"image")
    assert (blobs.folders("shared"), blobs.get("shared/x/0.png")) == (["x"], b"image")
    other.delete_prefix("x")
    assert not blobs.exists("shared/x/0.png")


def test_all_workers_and_the_api_see_the_same_pictures(cluster: Cluster, blobs: Blobs) -> None:
    short = {"model": "fashion-ccoopnets", "label": "Coat", "n": 2, "steps": 20}
    ids = [cluster.submit(**short, seed=seed) for seed in range(12)]
    for id in ids:
        record = cluster.finished(id)
        assert record.status is Status.SUCCEEDED, record.error
        images = cluster.images(record)
        assert images == [blobs.get(job_image(id, k).key) for k in range(2)]
        assert Image.open(BytesIO(images[0])).size == (28, 28)
    rows = {name: said["engine_rows_total"] for name, said in cluster.presence.workers().items()}
    assert len(rows) == 2
    assert all(rows.values()), rows
    assert not list(cluster.folder.glob("*/blobs"))


def test_an_uploaded_picture_is_kept_in_the_store(cluster: Cluster, blobs: Blobs) -> None:
    file = BytesIO()
    Image.new("L", (28, 28), 77).save(file, "PNG")
    sent = cluster.http.post("/v1/images", files={"file": ("grey.png", file.getvalue(), "image/png")})
    assert sent.status_code == 201, sent.text
    shown = cluster.http.get(sent.json()["url"])
    assert Image.open(BytesIO(shown.content)).getextrema() == (77, 77)
    assert blobs.folders("pictures")


def test_a_killed_workers_chain_goes_on_at_another_host(hosts: tuple[Cluster, list[Process]], blobs: Blobs) -> None:
    cluster, workers = hosts
    unbroken = cluster.finished(cluster.submit(**LONG))
    id = cluster.submit(**LONG)
    wait_for(lambda: cluster.jobs.get(id).saved_attempt == 1, "a saved chain")
    next(worker for worker in workers if worker.pid == cluster.worker_of(id)).kill()
    record = cluster.finished(id)
    assert (record.status, record.attempt, record.warnings) == (Status.SUCCEEDED, 2, unbroken.warnings)
    assert cluster.images(record) == cluster.images(unbroken)
    wait_for(lambda: not any(blobs.exists(job_chain(id, attempt)) for attempt in (1, 2)), "the end of the saved chain")


def test_without_the_store_a_picture_is_unavailable_and_later_there_again(cluster: Cluster, store: ObjectStore) -> None:
    """The last test: it stops the server that the others need."""
    record = cluster.finished(cluster.submit(model="fashion-ccoopnets", label="Bag", steps=1))
    assert cluster.http.get(record.outputs[0].url or "").status_code == 200
    store.stop()
    answer = cluster.http.get(record.outputs[0].url or "")
    assert (answer.status_code, answer.json()["type"]) == (503, "/errors/unavailable")
