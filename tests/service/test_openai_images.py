"""OpenAI's images API without a worker: prompts, forms, errors, and jobs that nobody waits for any more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest
import redis

from service.contract.errors import UnprocessableError
from service.contract.jobs import JobRecord
from service.contract.records import Status
from service.http.openai_images.prompts import label_of, prompt_of
from service.http.openai_images.work import index_of
from service.settings import Settings
from service.store.events import Event
from tests.service.serving import serving
from tests.service.submitting import SubmittingStore

CLASSES = ["T-shirt/top", "Shirt", "Coat", "Bag", "Ankle boot"]
ADDRESS = "/v1/images/generations"


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("Shirt", {"Shirt": 1}),
        ("t-shirt/TOP", {"T-shirt/top": 1}),
        ("a photo of a t-shirt, please", {"T-shirt/top": 1}),
        ("two ankle-boots", {"Ankle boot": 1}),
        ("3 coat + 1 bag", {"Coat": 3, "Bag": 1}),
        ("25% bag, 75% coat", {"Bag": 25, "Coat": 75}),
        ("0.5*Bag and a coat", {"Bag": 0.5, "Coat": 1}),
        (" ", None),
    ],
)
def test_a_prompt_names_classes(prompt: str, label: dict[str, float] | None) -> None:
    assert label_of(prompt, CLASSES, "m@1") == label


@pytest.mark.parametrize("prompt", ["a zebra", "coating", "handbag", "?"])
def test_a_prompt_that_names_none_is_refused_and_told_which_there_are(prompt: str) -> None:
    with pytest.raises(UnprocessableError, match="Ankle boot"):
        label_of(prompt, CLASSES, "m@1")


def test_what_a_prompt_was_taken_for_names_the_same_again() -> None:
    for label in ({"Bag": 1.0}, {"Coat": 0.25, "T-shirt/top": 0.75}):
        assert label_of(prompt_of(label), CLASSES, "m@1") == label


def test_a_step_that_comes_in_several_parts_counts_once() -> None:
    steps: list[int] = []
    events = [Event("0-0", "preview", json.dumps({"step": step})) for step in (0, 5, 5, 0, 10)]
    assert [index_of(event, steps) for event in events] == [0, 1, 1, 0, 2]


@pytest.fixture(scope="module")
def impatient(settings: Settings) -> Iterator[str]:
    """The address of an API that asks for keys and soon gives up."""
    with serving(settings.model_copy(update={"auth": "on", "openai_seconds": 0.1})) as url:
        yield url


def test_errors_from_before_the_route_have_its_shape(impatient: str, client: redis.Redis) -> None:
    answer = httpx.post(f"{impatient}{ADDRESS}", json={"prompt": "bag"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-length"] == str(len(answer.content))
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("invalid_api_key", "invalid_request_error", None)
    assert "Authorization: Bearer" in error["message"]


@pytest.mark.parametrize(
    ("content", "type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_json"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b'{"prompt": 5}', "application/json", 400, "invalid_request"),
        (b" " * 2_000_000, "application/json", 413, "body_too_large"),
    ],
)
def test_bad_bodies(api: httpx.Client, content: bytes, type: str, status: int, code: str) -> None:
    answer = api.post(ADDRESS, content=content, headers={"Content-Type": type})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    "parts",
    [
        {"files": {"image": b"not a picture"}},
        {"data": {"prompt": "bag"}, "files": {"video": b"x"}},
        {"data": {"image": "text"}, "files": {"mask": b"x"}},
        {"files": [("image[]", b"x"), ("image[]", b"y")]},
        {"data": {"options[a][b]": "1"}, "files": {"image": b"x"}},
    ],
)
def test_bad_forms_are_refused_in_words(api: httpx.Client, parts: dict[str, object]) -> None:
    answer = api.post("/v1/images/edits", **parts)  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_job_that_takes_too_long_is_cancelled(
    impatient: str, client: redis.Redis, jobs: SubmittingStore[JobRecord]
) -> None:
    from service.access.keys import Keys, Scope

    token = Keys(client).add("alice", frozenset({Scope.USE})).token
    answer = httpx.post(
        f"{impatient}{ADDRESS}", json={"prompt": "bag", "model": "toy"}, headers={"Authorization": f"Bearer {token}"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "timeout")
    assert answer.headers["x-should-retry"] == "false"
    (record,), _ = jobs.page(None, None, 5)
    assert record.status is Status.CANCELLED
    assert record.params["label"] == {"Bag": 1.0}


@pytest.mark.parametrize("stream", [False, True])
def test_a_job_whose_client_leaves_is_cancelled(
    api: httpx.Client, jobs: SubmittingStore[JobRecord], stream: bool
) -> None:
    body = {"prompt": "bag", "model": "toy", "stream": stream}
    with pytest.raises(httpx.ReadTimeout), api.stream("POST", ADDRESS, json=body, timeout=0.5) as answer:
        answer.read()
    deadline = time.monotonic() + 10
    while jobs.page(Status.CANCELLED, None, 5)[0] == [] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(jobs.page(Status.CANCELLED, None, 5)[0]) == 1
