"""The inference worker on a real store: results, failures, cancels, leases."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis
from PIL import Image

from models.core.loop import Loop
from service.contract.records import Progress, Status
from service.pictures.places import job_preview
from tests.workers.conftest import Bench, make_bench, publish_tiny
from workers.jobs.run import NOT_EXACT


def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def files(bench: Bench, id: str, n: int) -> list[bytes]:
    return [bench.blobs.get(f"jobs/{id}/{k}.png") for k in range(n)]


class InThread:
    """Runs a job in a thread, as the pool does."""

    def __init__(self, bench: Bench, **request: Any) -> None:
        self._bench = bench
        self.id = bench.submit(**request).id
        self._thread = threading.Thread(target=bench.worker.run)
        self._thread.start()

    def end(self) -> Status:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self._bench.store.get(self.id).status


def test_a_job_becomes_images(bench: Bench) -> None:
    record = bench.run(n=3, steps=4)
    assert record.status == Status.SUCCEEDED
    assert record.error is None
    assert record.progress == Progress(stage="score", step=1, steps=1)
    assert [output.url for output in record.outputs] == [f"/v1/jobs/{record.id}/images/{k}" for k in range(3)]
    assert len({output.seed for output in record.outputs}) == 3
    for data, output in zip(files(bench, record.id, 3), record.outputs, strict=True):
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (output.width, output.height))
        assert output.energy is not None
    assert NOT_EXACT not in record.warnings


def test_same_request_same_bytes_in_any_company(bench: Bench) -> None:
    alone = bench.run(n=2, steps=6, seed=11)
    crowd = [InThread(bench, n=1 + k % 3, steps=2 + k, seed=k) for k in range(8)]
    again = InThread(bench, n=2, steps=6, seed=11)
    assert all(job.end() == Status.SUCCEEDED for job in [*crowd, again])
    assert files(bench, alone.id, 2) == files(bench, again.id, 2)


def test_a_second_message_for_a_job_is_dropped(bench: Bench) -> None:
    record = bench.run(n=1)
    bench.worker.run()
    assert bench.store.get(record.id) == record


def test_one_message_is_enough_for_all_jobs_that_wait(bench: Bench) -> None:
    jobs = [bench.submit(n=1, seed=k) for k in range(3)]
    bench.worker.run()
    assert [bench.store.get(job.id).status for job in jobs] == [Status.SUCCEEDED] * 3


def test_a_drained_worker_takes_no_more_jobs(bench: Bench) -> None:
    job = InThread(bench, n=8, steps=200)
    eventually(lambda: bench.store.get(job.id).status == Status.RUNNING)
    waiting = bench.submit(n=1)
    bench.worker.drain(120.0)
    assert job.end() == Status.SUCCEEDED
    bench.worker.run()
    assert bench.store.get(waiting.id).status == Status.QUEUED
    assert bench.sent == []


def test_a_job_is_committed_though_the_store_was_away_and_the_next_one_is_taken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bench.submit(n=1), bench.submit(n=1)
    finish, failed = bench.store.finish, list[str]()

    def once(id: str, *rest: Any, **fields: Any) -> Any:
        if not failed:
            failed.append(id)
            raise redis.ConnectionError("away")
        return finish(id, *rest, **fields)

    monkeypatch.setattr(bench.store, "finish", once)
    bench.worker.run()
    assert failed == [first.id]
    assert [bench.store.get(job.id).status for job in (first, second)] == [Status.SUCCEEDED] * 2
    assert bench.heart.active == 0


def test_a_cancel_ends_a_running_job_soon(bench: Bench) -> None:
    job = InThread(bench, n=8, steps=200)
    eventually(lambda: bench.store.get(job.id).status == Status.RUNNING)
    bench.store.cancel(job.id)
    assert job.end() == Status.CANCELLED
    assert not bench.blobs.exists(f"jobs/{job.id}/0.png")


def test_a_chain_that_diverges_fails_with_its_reason(bench: Bench) -> None:
    publish_tiny(bench.settings.checkpoints_dir, slope=1e12)
    record = bench.submit(n=1, steps=50)
    bench.worker.run()
    failed = bench.store.get(record.id)
    assert failed.status == Status.FAILED
    assert failed.error is not None
    assert failed.error.kind == "diverged"
    assert "lower step_size" in failed.error.detail


def test_an_exception_in_a_task_fails_that_job_alone(bench: Bench, caplog: Any) -> None:
    def broken(model: Any, job: Any):  # type: ignore[no-untyped-def]
        yield Loop(lambda rows, t, noise: 1 / 0, {"x": bench_row()}, 1, [0])  # type: ignore[arg-type, return-value]

    with bench.residency.use("tiny@1") as resident:
        good = resident.model
        resident.model = replace(good, tasks={"generate": broken})
        record = bench.run()
        resident.model = good
    assert record.error is not None
    assert record.error.kind == "internal"
    assert "ZeroDivisionError" in caplog.text
    assert "ZeroDivisionError" not in record.error.detail
    assert bench.run().status == Status.SUCCEEDED


def bench_row() -> Any:
    import torch

    return torch.zeros(1, 1)


def test_a_damaged_checkpoint_fails_its_jobs_with_the_reason(bench: Bench) -> None:
    record = bench.submit()
    weights = bench.settings.checkpoints_dir / "tiny" / "1" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    bench.worker.run()
    failed = bench.store.get(record.id)
    assert failed.error is not None
    assert failed.error.kind == "unusable-model"
    assert "is damaged" in failed.error.detail


def test_an_image_that_diverges_does_not_take_its_neighbours_with_it(bench: Bench) -> None:
    def one_diverges(model: Any, job: Any):  # type: ignore[no-untyped-def]
        output = yield from original(model, job)
        images = output.images.clone()
        images[1] = float("nan")
        return replace(output, images=images, numbers={"figure": [1.0, float("nan"), 3.0]}, animated=True)

    expected = bench.run(n=3, steps=2)
    with bench.residency.use("tiny@1") as resident:
        good = resident.model
        original = good.tasks["generate"]
        resident.model = replace(good, tasks={"generate": one_diverges})
        record = bench.run(n=3, steps=2)
        resident.model = good
    assert record.status is Status.SUCCEEDED
    assert [output.url is not None for output in record.outputs] == [True, False, True]
    assert [output.energy is not None for output in record.outputs] == [True, False, True]
    assert [output.extras for output in record.outputs] == [{"figure": 1.0}, {}, {"figure": 3.0}]
    for k in (0, 2):
        assert bench.blobs.get(f"jobs/{record.id}/{k}.png") == bench.blobs.get(f"jobs/{expected.id}/{k}.png")
    assert not bench.blobs.exists(f"jobs/{record.id}/1.png")
    (warning,) = [warning for warning in record.warnings if "diverged" in warning]
    assert warning.startswith("1 of 3 images diverged and are left out (outputs, from 0: 1); lower step_size")


def test_a_job_of_which_all_images_diverge_fails(bench: Bench) -> None:
    record = bench.run(n=2, steps=150, step_size=4.0, noise=1.0)
    assert record.status is Status.FAILED
    assert record.error is not None
    assert record.error.kind == "diverged"


def test_previews_and_progress_are_announced(bench: Bench, client: redis.Redis) -> None:
    record = bench.run(n=2, steps=60, preview_every=20)
    entries: Any = client.xrange(bench.store.events_key(record.id))
    events = [(fields["event"], json.loads(fields["data"])) for _, fields in entries]
    previews = [data for name, data in events if name == "preview"]
    assert [preview["step"] for preview in previews] == [0, 20, 40]
    with Image.open(io.BytesIO(bench.blobs.get(f"jobs/{record.id}/previews/20.png"))) as picture:
        assert picture.size == (2 * 28, 28)
    assert events[-1] == ("status", {"status": "succeeded", "attempt": 1})


def test_previews_that_come_in_parts_are_kept_apart(bench: Bench, client: redis.Redis) -> None:
    """Of twelve images eight are advanced at first: the others come to the same step later."""
    record = bench.run(n=12, steps=4, preview_every=2)
    entries: Any = client.xrange(bench.store.events_key(record.id))
    previews = [json.loads(fields["data"]) for _, fields in entries if fields["event"] == "preview"]
    parts = [preview for preview in previews if preview["step"] == 2]
    assert sorted(row for part in parts for row in part["rows"]) == list(range(12))
    assert len({part["url"] for part in parts}) == len(parts) > 1
    for part in parts:
        place = job_preview(record.id, 2, part["rows"][0])
        assert place.url == part["url"]
        with Image.open(io.BytesIO(bench.blobs.get(place.key))) as picture:
            assert picture.width == len(part["rows"]) * picture.height


def test_a_worker_that_was_taken_over_commits_nothing(bench: Bench, client: redis.Redis) -> None:
    """The store gives its job to another worker, which finishes it; the first one wakes up too late."""
    gate, entered = threading.Event(), threading.Event()

    def slow(model: Any, job: Any):  # type: ignore[no-untyped-def]
        entered.set()
        assert gate.wait(20)
        return (yield from original(model, job))

    with bench.residency.use("tiny@1") as resident:
        original = resident.model.tasks["generate"]
        resident.model = replace(resident.model, tasks={"generate": slow})
    bench.heart.stop()  # no heartbeat from now on: the lease runs out
    job = InThread(bench, n=1, steps=2)
    assert entered.wait(10)
    eventually(lambda: bench.store.requeue_expired())
    other = make_bench(bench.settings, client, "worker-2")
    other.engine.start()
    other.worker.run()
    other.engine.stop()
    committed = bench.store.get(job.id)
    assert (committed.status, committed.attempt) == (Status.SUCCEEDED, 2)
    gate.set()
    job.end()
    assert bench.store.get(job.id) == committed


def test_the_sweep_sends_jobs_of_silent_workers_again(bench: Bench, client: redis.Redis) -> None:
    record = bench.submit()
    assert bench.store.claim(record.id, "a-worker-that-dies", 0.05) is not None
    bench.janitor.start()
    eventually(lambda: bench.sent)
    bench.janitor.stop()
    assert bench.sent[0].id == record.id
    bench.worker.run()
    done = bench.store.get(record.id)
    assert (done.status, done.attempt) == (Status.SUCCEEDED, 2)
