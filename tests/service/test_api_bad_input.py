"""Whatever a client sends: a clear problem document, and nothing in the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import redis

from service.contract.errors import PROBLEMS
from service.contract.jobs import JobRecord
from service.settings import Settings
from service.store.store import RecordStore

JSON = {"Content-Type": "application/json"}


def problem(answer: httpx.Response, kind: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"/errors/{kind}"
    assert document["status"] == answer.status_code == PROBLEMS[kind].status
    assert document["title"] == PROBLEMS[kind].title
    assert document["remedy"] == PROBLEMS[kind].remedy
    assert document["detail"]
    assert len(answer.content) < 20_000
    return document


@pytest.fixture(autouse=True)
def nothing_is_queued(jobs: RecordStore[JobRecord], sent: Callable[[], int]) -> Iterator[None]:
    yield
    assert jobs.depth() == 0
    assert sent() == 0


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"model": "nope"}, "unknown-model", "toy"),
        ({"model": "toy@9"}, "unknown-model", "no version 9"),
        ({"model": "../../etc"}, "unknown-model", "toy"),
        ({"model": "toy@1/../1"}, "unknown-model", "toy"),
        ({"model": "toy\n"}, "unknown-model", "toy"),
        ({"model": ""}, "invalid-request", "model"),
        ({"model": None}, "invalid-request", "model"),
        ({"label": "Shoe"}, "invalid-request", "Bag, Coat, Sneaker"),
        ({"label": "\u0000"}, "invalid-request", "Bag, Coat, Sneaker"),
        ({"label": 3}, "invalid-request", "0 to 2"),
        ({"label": -1}, "invalid-request", "label"),
        ({"label": True}, "invalid-request", "label"),
        ({"label": 1.5}, "invalid-request", "label"),
        ({"label": ["Bag"]}, "invalid-request", "label"),
        ({"label": {}}, "invalid-request", "above 0"),
        ({"label": {"Bag": 0}}, "invalid-request", "above 0"),
        ({"label": {"Bag": -1}}, "invalid-request", "label"),
        ({"label": {"Bag": 1, "bag": 1}}, "invalid-request", "twice"),
        ({"label": {"Shoe": 1}}, "invalid-request", "Bag, Coat, Sneaker"),
        ({"n": 0}, "invalid-request", "n"),
        ({"n": 9}, "invalid-request", "1 to 8"),
        ({"n": True}, "invalid-request", "n"),
        ({"n": "2"}, "invalid-request", "n"),
        ({"n": 2.5}, "invalid-request", "n"),
        ({"n": 10**40}, "invalid-request", "n"),
        ({"steps": -1}, "invalid-request", "steps"),
        ({"steps": 51}, "invalid-request", "0 to 50"),
        ({"step_size": 4.5}, "invalid-request", "0.0 to 4.0"),
        ({"step_size": 10**400}, "invalid-request", "step_size"),
        ({"noise": 1.5}, "invalid-request", "0.0 to 1.0"),
        ({"noise": "0"}, "invalid-request", "noise"),
        ({"seed": -1}, "invalid-request", "seed"),
        ({"seed": 2**63}, "invalid-request", "seed"),
        ({"priority": 10}, "invalid-request", "priority"),
        ({"refine": 1}, "invalid-request", "refine"),
        ({"options": {"speed": 3}}, "invalid-request", "none for this task"),
        ({"options": {"Speed!": 3}}, "invalid-request", "options"),
        ({"options": {"speed": [3]}}, "invalid-request", "options.speed"),
        ({"options": {"speed": {"x": 3}}}, "invalid-request", "options.speed"),
        ({"options": {"speed": None}}, "invalid-request", "options.speed"),
        ({"options": {"speed": 10**400}}, "invalid-request", "options.speed"),
        ({"options": [3]}, "invalid-request", "options"),
        ({"options": None}, "invalid-request", "options"),
        ({"latent_steps": 3}, "invalid-request", "latent_steps"),
        ({"setps": 3}, "invalid-request", "setps"),
        ({"x" * 10_000: "y" * 10_000}, "invalid-request", "xxx"),
    ],
)
def test_a_field_is_wrong(api: httpx.Client, changes: dict[str, Any], kind: str, says: str) -> None:
    document = problem(api.post("/v1/generate", json={"model": "toy", **changes}), kind)
    assert says in document["detail"]
    if kind == "invalid-request":
        assert document["errors"][0]["loc"][0] == "body"
        assert document["errors"][0]["loc"][1] == next(iter(changes))[:300]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"model": "toy",}',
        b'{"model": "toy"} {}',
        b'{"model": "toy", "noise": NaN}',
        b'{"model": "toy", "noise": Infinity}',
        b'{"model": "toy", "noise": -Infinity}',
        b'{"model": "toy", "label": "\\ud800"}',
        b'{"model": "\xff"}',
        b'{"model": "toy", "n": ' + b"9" * 10_000 + b"}",
        b"[" * 100_000,
        b'{"label":' * 100_000,
        "{}".encode("utf-16"),
    ],
)
def test_the_body_is_not_json(api: httpx.Client, body: bytes) -> None:
    problem(api.post("/v1/generate", content=body, headers=JSON), "malformed-json")


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"toy"', b"7", b"{}"])
def test_the_body_is_json_but_no_request(api: httpx.Client, body: bytes) -> None:
    problem(api.post("/v1/generate", content=body, headers=JSON), "invalid-request")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_the_content_type_is_wrong(api: httpx.Client, content_type: str) -> None:
    answer = api.post("/v1/generate", content=b'{"model": "toy"}', headers={"Content-Type": content_type})
    problem(answer, "unsupported-media-type")


def test_a_charset_is_allowed(api: httpx.Client) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    problem(api.post("/v1/generate", content=b'{"model": "nope"}', headers=headers), "unknown-model")


def test_the_body_is_too_large(api: httpx.Client, settings: Settings) -> None:
    size = settings.max_body_bytes + 1
    declared = api.post("/v1/generate", content=b" " * size, headers=JSON)
    assert str(settings.max_body_bytes) in problem(declared, "body-too-large")["detail"]

    def chunks() -> Iterator[bytes]:
        for _ in range(size // 65_536 + 1):
            yield b" " * 65_536

    problem(api.post("/v1/generate", content=chunks(), headers=JSON), "body-too-large")


@pytest.mark.parametrize("prefer", ["wait=soon", "wait=-1", "wait=nan", "wait=1e3", "wait=99999999"])
def test_a_preference_is_wrong(api: httpx.Client, prefer: str) -> None:
    problem(api.post("/v1/generate", json={"model": "toy"}, headers={"Prefer": prefer}), "invalid-request")


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_an_idempotency_key_is_wrong(api: httpx.Client, key: str) -> None:
    headers = {"Idempotency-Key": key}
    problem(api.post("/v1/generate", json={"model": "toy"}, headers=headers), "invalid-request")


@pytest.mark.parametrize("id", ["job_0", "%00", "%ff%fe", "..%2e", "*", "{x}", "%F0%9F%91%9F", "a" * 90, "x%0d%0ay: z"])
@pytest.mark.parametrize("tail", ["", "/cancel", "/events", "/images/0", "/previews/1"])
def test_an_unknown_job(api: httpx.Client, id: str, tail: str) -> None:
    method = "POST" if tail == "/cancel" else "GET"
    problem(api.request(method, f"/v1/jobs/{id}{tail}"), "unknown-job")
    tail = tail.replace("images", "samples").replace("previews", "samples")
    problem(api.request(method, f"/v1/trainings/{id}{tail}"), "unknown-training")


@pytest.mark.parametrize(
    "url",
    [
        "/v1/jobs?cursor=zz",
        "/v1/jobs?cursor=%00",
        "/v1/jobs?limit=0",
        "/v1/jobs?limit=101",
        "/v1/jobs?limit=" + "9" * 5000,
        "/v1/jobs?status=lost",
        "/v1/jobs/x/images/-1",
        "/v1/jobs/x/images/one",
        "/v1/jobs/x/images/" + "9" * 5000,
        "/v1/jobs/" + "x" * 200,
    ],
)
def test_a_parameter_is_wrong(api: httpx.Client, url: str) -> None:
    problem(api.get(url), "invalid-request")


@pytest.mark.parametrize("last_id", ["x", "1", "1-1-1", "-1-0", "99999999999999999999-0", "+", "$"])
def test_a_last_event_id_is_wrong(api: httpx.Client, last_id: str) -> None:
    problem(api.get("/v1/jobs/x/events", headers={"Last-Event-ID": last_id}), "invalid-request")


def test_addresses_and_methods_that_do_not_exist(api: httpx.Client) -> None:
    problem(api.get("/v1/nope"), "not-found")
    problem(api.get("/errors/nope"), "not-found")
    problem(api.get("/v1/models/nope"), "unknown-model")
    answer = api.delete("/v1/jobs")
    problem(answer, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "My Model"},
        {"name": "../up"},
        {"name": "a" * 65},
        {"name": "-a"},
        {"data": "../../etc/passwd"},
        {"data": ""},
        {"iterations": 0},
        {"seed": 2**63},
        {"overrides": {"lr": None}},
        {"overrides": {"a/b": 1}},
        {"overrides": {"lr": [1]}},
        {"overrides": {"lr": 10**400}},
        {"bogus": 1},
    ],
)
def test_a_training_request_is_wrong(api: httpx.Client, client: redis.Redis, changes: dict[str, Any]) -> None:
    problem(api.post("/v1/trainings", json={"data": "digits", "name": "mine", **changes}), "invalid-request")
    assert client.dbsize() == 0


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"system": "gan"}, ["system"], "unknown system 'gan'; choose one of: ccoopnets, cfebm"),
        (
            {"preset": "huge"},
            ["preset"],
            "unknown preset 'huge' of ccoopnets; choose one of: small, small-colour",
        ),
        (
            {"data": "nothing"},
            ["data"],
            "choose one of: fashion-mnist, digits, fluent, noto, emoji, primitives, horses, pairs",
        ),
        ({"data": "fluent", "preset": "small-emoji"}, ["data"], "run `coopserve data fetch fluent`"),
        ({"overrides": {"speed": 9}}, ["overrides", "speed"], "unknown setting 'speed'; known, for example: channels"),
        ({"overrides": {"refinement": 9}}, ["overrides", "refinement"], "unknown setting 'refinement'"),
        ({"overrides": {"refinement.steps": 0}}, ["overrides", "refinement.steps"], "greater than or equal to 1"),
        ({"overrides": {"refinement.steps": 1.5}}, ["overrides", "refinement.steps"], "valid integer"),
        ({"overrides": {"training.ema": "much"}}, ["overrides", "training.ema"], "valid number"),
        ({"overrides": {"training.ema": 1}}, ["overrides", "training.ema"], "less than 1"),
        ({"overrides": {"training.guard_move": -1}}, ["overrides", "training.guard_move"], "greater than 0"),
        ({"overrides": {"training.precision": "fp8"}}, ["overrides", "training.precision"], "'fp32' or 'bf16'"),
        ({"overrides": {"solver.concat_at": 3}}, ["overrides", "solver.concat_at"], "one of 3 layers, 0 to 2"),
        ({"system": "cfebm", "batch_size": 8}, ["batch_size"], "no training.batch_size; leave batch_size out"),
        ({"system": "cfebm", "iterations": 9}, ["iterations"], "the growth takes 939 iterations"),
        ({"preset": "paper-svhn"}, ["data"], "has grey images (1 channel), but the preset paper-svhn takes colour"),
        ({"preset": "small-inpaint"}, ["data"], "28x28 pixels, but the preset small-inpaint takes 64x64"),
        ({"image_size": 27}, ["data"], "27x27 pixels, but the preset small takes 28x28: try image_size = 28"),
        ({"channels": 3}, ["data"], 'try channels = 1, or preset = "small-colour" and image_size = 32'),
        ({"channels": 2}, ["channels"], "channels"),
        ({"image_size": 0}, ["image_size"], "greater than or equal to 1"),
        ({"name": "my_model"}, ["name"], "is no name of a model: use small letters, digits and hyphens"),
        ({"preset": "small-emoji"}, ["data"], "has no condition images"),
        ({"data": "plain"}, ["data"], "plain has no labels"),
        ({"data": "horses"}, ["data"], "two domains without pairs, but one set of images is wanted"),
        ({"system": "cfebm", "preset": "small-translate"}, ["data"], "no two domains; give aligned pairs"),
        ({"direction": "BtoA"}, ["direction"], "no pairs that BtoA could turn round"),
    ],
)
def test_a_training_that_can_not_work_is_refused(
    api: httpx.Client, client: redis.Redis, changes: dict[str, Any], field: list[str], says: str
) -> None:
    body = {"data": "sample", "name": "mine", **changes}
    document = problem(api.post("/v1/trainings", json=body), "invalid-request")
    assert says in document["detail"]
    assert document["errors"][0]["loc"] == ["body", *field]
    assert client.dbsize() == 0


def test_every_kind_of_error_has_a_page(api: httpx.Client) -> None:
    listed = {item["type"]: item for item in api.get("/errors").json()["items"]}
    assert listed.keys() == {f"/errors/{kind}" for kind in PROBLEMS}
    for address, item in listed.items():
        assert api.get(address).json() == item
