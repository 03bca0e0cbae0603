"""The queue is full: new requests are refused with 429, what was accepted goes on, and room that is made is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
import redis

from service.pictures.samples import SAMPLES
from service.settings import Settings
from tests.service.fakes import FakeWorker
from tests.service.serving import serving

BODY = {"model": "toy", "label": "Bag", "n": 1, "steps": 1}
PICTURE = {"model": "toy-classes", "image": "sample-shirt", "labels": ["Bag"]}
ROOM = 2


@pytest.fixture(scope="module")
def small_url(settings: Settings) -> Iterator[str]:
    with serving(settings.model_copy(update={"max_queued": ROOM})) as url:
        yield url


@pytest.fixture
def api(small_url: str, client: redis.Redis) -> Iterator[httpx.Client]:
    """A client of an API whose empty queue has room for two."""
    with httpx.Client(base_url=small_url, timeout=30) as http:
        yield http


def accepted(api: httpx.Client, key: str, status: int = 202, **headers: str) -> str:
    """Send a job by an Idempotency-Key; gives its id."""
    answer = api.post("/v1/generate", json=BODY, headers={"Idempotency-Key": key, **headers})
    assert answer.status_code == status, answer.text
    return str(answer.json()["id"])


def refused(answer: httpx.Response) -> None:
    """The answer is the problem document of a full queue."""
    assert (answer.status_code, answer.json()["type"]) == (429, "/errors/queue-full")
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["detail"] == f"{ROOM} requests are waiting already"


def test_a_full_queue_refuses_until_a_job_is_cancelled(api: httpx.Client, sent: Callable[[], int]) -> None:
    first, _ = accepted(api, "first"), accepted(api, "second")
    for body, task in ((BODY, "generate"), (PICTURE, "restyle")):
        refused(api.post(f"/v1/{task}", json=body))
    assert sent() == ROOM
    assert len(api.get("/v1/jobs").json()["items"]) == ROOM
    assert api.post(f"/v1/jobs/{first}/cancel").json()["status"] == "cancelled"
    accepted(api, "third")
    refused(api.post("/v1/generate", json=BODY))


def test_a_full_queue_refuses_until_a_worker_takes_a_job(api: httpx.Client, worker: FakeWorker) -> None:
    accepted(api, "first")
    accepted(api, "second")
    refused(api.post("/v1/generate", json=BODY, headers={"Idempotency-Key": "third"}))
    worker.run_next()
    accepted(api, "third")  # the refusal has not used the key up


def test_a_retry_of_an_accepted_job_is_answered_though_the_queue_is_full(api: httpx.Client, worker: FakeWorker) -> None:
    done = accepted(api, "done")
    worker.run(done)
    queued, _ = accepted(api, "queued"), accepted(api, "other")
    refused(api.post("/v1/generate", json=BODY))
    assert accepted(api, "queued") == queued
    assert accepted(api, "done") == done
    assert accepted(api, "done", status=200, Prefer="wait=5") == done


def test_a_refused_request_leaves_no_pictures(api: httpx.Client, settings: Settings) -> None:
    accepted(api, "first")
    accepted(api, "second")
    before = set(settings.blobs_dir.rglob("*.png"))
    refused(api.post("/v1/restyle", json=PICTURE))
    assert set(settings.blobs_dir.rglob("*.png")) == before
    upload = api.post("/v1/images", files={"file": SAMPLES["sample-shirt"].png}).json()
    refused(api.post("/v1/restyle", json={**PICTURE, "image": upload["id"]}))
    assert api.get(upload["url"]).status_code == 200


def test_trainings_have_a_queue_of_their_own(api: httpx.Client) -> None:
    accepted(api, "first")
    accepted(api, "second")
    body = {"data": "sample", "name": "mine"}
    first, second = (api.post("/v1/trainings", json=body) for _ in range(ROOM))
    assert (first.status_code, second.status_code) == (202, 202)
    refused(api.post("/v1/trainings", json=body))
    assert api.post(f"{first.json()['links']['self']}/cancel").status_code == 200
    assert api.post("/v1/trainings", json=body).status_code == 202
