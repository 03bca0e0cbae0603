"""The life of jobs and trainings over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from service.contract.jobs import JobRecord
from service.contract.records import Status
from service.contract.trainings import TrainingRecord
from service.settings import Settings
from service.store.presence import Presence
from service.store.store import RecordStore
from tests.service.beats import heartbeat
from tests.service.fakes import PNG, FakeWorker

COMPLETE = {"model": "toy", "label": "Sneaker", "n": 2, "seed": 7}


def read_events(api: httpx.Client, url: str, last_id: str | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    found: list[tuple[str, str, dict[str, Any]]] = []
    with api.stream("GET", url, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                found.append((fields["id"], fields["event"], json.loads(fields["data"])))
                fields = {}
    return found


def test_a_job_from_request_to_picture(api: httpx.Client, worker: FakeWorker, sent: Callable[[], int]) -> None:
    answer = api.post("/v1/generate", json=COMPLETE)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert (job["status"], job["model"], job["seed"], job["queue_position"]) == ("queued", "toy@1", 7, 0)
    assert job["params"] == {
        "model": "toy@1",
        "label": {"Sneaker": 1.0},
        "n": 2,
        "seed": 7,
        "steps": 10,
        "step_size": 1.0,
        "noise": 0.0,
        "refine": True,
        "options": {},
        "preview_every": 0,
        "output_format": "png",
        "priority": 5,
        "max_queue_seconds": None,
        "webhook": None,
    }
    assert sent() == 1
    worker.run(job["id"])
    done = api.get(job["links"]["self"]).json()
    assert (done["status"], len(done["outputs"]), done["error"]) == ("succeeded", 2, None)
    assert done["progress"] == {"stage": "refine", "step": 10, "steps": 10}
    picture = api.get(done["outputs"][1]["url"])
    assert (picture.status_code, picture.content) == (200, PNG + b"\x01")
    assert picture.headers["content-type"] == "image/png"
    assert "immutable" in picture.headers["cache-control"]
    again = api.get(done["outputs"][1]["url"], headers={"If-None-Match": picture.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_seed_is_chosen_and_reported(api: httpx.Client) -> None:
    first, second = (api.post("/v1/generate", json={"model": "toy"}).json() for _ in range(2))
    assert first["seed"] != second["seed"]
    assert first["params"]["seed"] == first["seed"] < 2**32
    assert sum(first["params"]["label"].values()) == 1


def test_more_steps_than_trained_are_accepted_with_a_warning(api: httpx.Client) -> None:
    job = api.post("/v1/generate", json={**COMPLETE, "steps": 50}).json()
    assert "trained with 10" in job["warnings"][0]
    assert api.post("/v1/generate", json={**COMPLETE, "steps": 50, "refine": False}).json()["warnings"] == []


def test_waiting_gives_the_finished_job(api: httpx.Client, worker: FakeWorker) -> None:
    helper = threading.Thread(target=worker.run_next)
    helper.start()
    answer = api.post("/v1/generate", json=COMPLETE, headers={"Prefer": "respond-async, wait=20"})
    helper.join()
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert len(answer.json()["outputs"]) == 2
    assert answer.headers["preference-applied"] == "wait=20"


def test_waiting_too_short_gives_the_queued_job(api: httpx.Client) -> None:
    started = time.monotonic()
    answer = api.post("/v1/generate", json=COMPLETE, headers={"Prefer": "wait=0.2"})
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert 0.2 <= time.monotonic() - started < 5


def test_waiting_ends_when_the_job_is_cancelled(api: httpx.Client, jobs: RecordStore[JobRecord]) -> None:
    def cancel() -> None:
        while not (records := jobs.page(Status.QUEUED, None, 1)[0]):
            time.sleep(0.005)
        jobs.cancel(records[0].id)

    helper = threading.Thread(target=cancel)
    helper.start()
    answer = api.post("/v1/generate", json=COMPLETE, headers={"Prefer": "wait=20"})
    helper.join()
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")


def test_an_idempotency_key_makes_one_job(api: httpx.Client, worker: FakeWorker, sent: Callable[[], int]) -> None:
    keyed = {"Idempotency-Key": "a key"}
    first = api.post("/v1/generate", json={"model": "toy"}, headers=keyed).json()
    assert api.post("/v1/generate", json={"model": "toy"}, headers=keyed).json() == first
    assert sent() == 1
    other = api.post("/v1/generate", json={"model": "toy", "n": 2}, headers=keyed)
    assert (other.status_code, other.json()["type"]) == (422, "/errors/idempotency-conflict")
    helper = threading.Thread(target=worker.run_next)
    helper.start()
    waited = api.post("/v1/generate", json={"model": "toy"}, headers={**keyed, "Prefer": "wait=20"})
    helper.join()
    assert (waited.status_code, waited.json()["id"]) == (200, first["id"])
    finished = api.post("/v1/generate", json={"model": "toy"}, headers={**keyed, "Prefer": "wait=20"})
    assert (finished.status_code, finished.json()) == (200, waited.json())


def test_cancel_over_http(api: httpx.Client, jobs: RecordStore[JobRecord]) -> None:
    job = api.post("/v1/generate", json=COMPLETE).json()
    for _ in range(2):
        answer = api.post(job["links"]["cancel"])
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    running = api.post("/v1/generate", json=COMPLETE).json()
    jobs.claim(running["id"], "w", 10)
    answer = api.post(running["links"]["cancel"]).json()
    assert (answer["status"], answer["cancel_requested"]) == ("running", True)


def test_events_tell_the_whole_story_and_resume(api: httpx.Client, worker: FakeWorker) -> None:
    job = api.post("/v1/generate", json={**COMPLETE, "steps": 3}).json()
    helper = threading.Timer(0.2, worker.run, args=[job["id"]])
    helper.start()
    live = read_events(api, job["links"]["events"])
    helper.join()
    assert [event for _, event, _ in live] == ["status", "status", "progress", "progress", "progress", "status"]
    assert [data["status"] for _, event, data in live if event == "status"] == ["queued", "running", "succeeded"]
    assert [data["step"] for _, event, data in live if event == "progress"] == [1, 2, 3]
    assert read_events(api, job["links"]["events"]) == live
    assert read_events(api, job["links"]["events"], live[2][0]) == live[3:]
    nothing = api.get(job["links"]["events"], headers={"Last-Event-ID": live[-1][0]})
    assert nothing.status_code == 204


def test_many_clients_follow_at_once(base_url: str, api: httpx.Client, worker: FakeWorker) -> None:
    job = api.post("/v1/generate", json={**COMPLETE, "steps": 1}).json()

    async def follow(http: httpx.AsyncClient) -> str:
        return (await http.get(job["links"]["events"])).text

    async def all_of_them() -> list[str]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=base_url, limits=limits, timeout=30) as http:
            followers = [asyncio.create_task(follow(http)) for _ in range(130)]
            await asyncio.sleep(0.5)
            await asyncio.to_thread(worker.run, job["id"])
            return await asyncio.gather(*followers)

    texts = asyncio.run(all_of_them())
    assert len(texts) == 130
    assert all("succeeded" in text for text in texts)


def test_events_that_are_gone_still_tell_the_end(
    api: httpx.Client, client: redis.Redis, worker: FakeWorker, jobs: RecordStore[JobRecord]
) -> None:
    job = api.post("/v1/generate", json=COMPLETE).json()
    worker.run(job["id"])
    client.delete(jobs.events_key(job["id"]))
    ((_, event, data),) = read_events(api, job["links"]["events"])
    assert (event, data["status"]) == ("status", "succeeded")


def test_jobs_are_listed_by_pages_and_status(api: httpx.Client, worker: FakeWorker) -> None:
    ids = [api.post("/v1/generate", json=COMPLETE).json()["id"] for _ in range(3)]
    worker.run(ids[0])
    first = api.get("/v1/jobs", params={"limit": 2}).json()
    second = api.get("/v1/jobs", params={"limit": 2, "cursor": first["next"]}).json()
    assert [job["id"] for job in first["items"] + second["items"]] == ids[::-1]
    assert second["next"] is None
    done = api.get("/v1/jobs", params={"status": "succeeded"}).json()["items"]
    assert [job["id"] for job in done] == [ids[0]]


def test_pictures_that_do_not_exist(api: httpx.Client) -> None:
    job = api.post("/v1/generate", json=COMPLETE).json()
    for url in (f"/v1/jobs/{job['id']}/images/0", f"/v1/jobs/{job['id']}/previews/3"):
        answer = api.get(url)
        assert (answer.status_code, answer.json()["type"]) == (404, "/errors/unknown-image")
        assert "queued" in answer.json()["detail"]
    assert api.get("/v1/jobs/job_none/images/0").json()["type"] == "/errors/unknown-job"


def test_a_training_over_http(
    api: httpx.Client, trainings: RecordStore[TrainingRecord], sent: Callable[[], int]
) -> None:
    answer = api.post("/v1/trainings", json={"data": "digits", "name": "mine", "overrides": {"training.ema": 0.5}})
    assert answer.status_code == 202
    training = answer.json()
    assert answer.headers["location"] == training["links"]["self"] == f"/v1/trainings/{training['id']}"
    assert (training["params"]["system"], training["params"]["overrides"]) == ("ccoopnets", {"training.ema": 0.5})
    assert sent() == 1
    trainings.claim(training["id"], "t", 10)
    heartbeat(trainings, training["id"], 1, 10, metrics={"energy": 0.5})
    trainings.finish(training["id"], 1, Status.SUCCEEDED, model="mine@1")
    done = api.get(training["links"]["self"]).json()
    assert (done["status"], done["metrics"], done["model"]) == ("succeeded", {"energy": 0.5}, "mine@1")
    assert [event for _, event, _ in read_events(api, training["links"]["events"])] == [
        "status",
        "status",
        "metrics",
        "status",
    ]
    assert api.get("/v1/trainings").json()["items"] == [done]
    assert api.post(training["links"]["cancel"]).json() == done
    assert api.get(f"/v1/trainings/{training['id']}/samples/5").json()["type"] == "/errors/unknown-image"
    assert api.get("/v1/jobs").json()["items"] == []


def test_ready_needs_an_inference_worker(api: httpx.Client, presence: Presence) -> None:
    assert api.get("/v2/health/live").json() == {"live": True}
    presence.announce("t", {"kind": "training"}, 10)
    answer = api.get("/v2/health/ready")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["inference worker"])
    assert answer.headers["retry-after"] == "2"
    presence.announce("w", {"kind": "inference"}, 10)
    assert api.get("/v2/health/ready").json() == {"ready": True, "workers": {"inference": 1, "training": 1}}
    presence.leave("w")
    assert api.get("/v2/health/ready").status_code == 503


def test_health_says_why_no_worker_is_ready(api: httpx.Client, presence: Presence) -> None:
    presence.announce("w", {"kind": "inference", "state": "stuck"}, 10)
    assert "the device of one does not answer" in api.get("/v2/health/ready").json()["detail"]
    presence.leave("w")
    presence.tell_failure("training", "no room")
    assert api.get("/v2/health/ready").json()["detail"] == "no inference worker is ready"
    presence.tell_failure("inference", "the device 'cuda' can't be used: the driver is too old")
    assert "one has ended: the device 'cuda' can't be used" in api.get("/v2/health/ready").json()["detail"]
    presence.announce("w", {"kind": "inference", "state": "ready"}, 10)
    assert api.get("/v2/health/ready").status_code == 200


def test_a_silent_worker_is_forgotten(presence: Presence) -> None:
    presence.announce("w", {"kind": "inference"}, 0.01)
    time.sleep(0.03)
    assert presence.workers() == {}


def test_metrics_show_requests_jobs_and_workers(api: httpx.Client, presence: Presence) -> None:
    api.post("/v1/generate", json=COMPLETE)
    api.request("PURGE", "/v1/jobs/" + "x" * 50)
    presence.announce("w", {"kind": "inference", "rows_advanced": 1234, "device": "cpu", "Bad Name": 1}, 10)
    text = api.get("/metrics").text
    assert 'coopserve_jobs{status="queued"} 1.0' in text
    assert "coopserve_jobs_waiting 1.0" in text
    assert 'coopserve_worker_rows_advanced{kind="inference",worker="w"} 1234.0' in text
    assert 'method="POST",route="/v1/generate",status="202"' in text
    assert 'method="other"' in text
    assert "xxxx" not in text
    assert "PURGE" not in text
    assert "Bad Name" not in text


def test_request_ids_are_echoed_or_made(api: httpx.Client) -> None:
    assert api.get("/v1/models", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = api.get("/v1/models", headers={"X-Request-ID": "a b;{}"}).headers["x-request-id"]
    assert len(made) == 32


def test_models_are_listed_with_their_cards(api: httpx.Client, settings: Settings) -> None:
    items = api.get("/v1/models").json()["items"]
    names = [f"toy{name}@1" for name in ("", "-classes", "-energy", "-holes", "-latents", "-pairs", "-solids")]
    assert [(item["ref"], item["available"]) for item in items] == [(name, True) for name in names]
    one = api.get("/v1/models/toy").json()
    assert one == api.get("/v1/models/toy@latest").json()
    assert items[0]["card"].items() <= one.items()
    assert one["object"] == "model"  # for clients of OpenAI's API


@pytest.mark.parametrize("url", ["/docs", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/favicon.ico"])
def test_the_documentation_needs_no_other_server(api: httpx.Client, url: str) -> None:
    answer = api.get(url)
    assert answer.status_code == 200
    if url == "/docs":
        assert "://" not in answer.text
