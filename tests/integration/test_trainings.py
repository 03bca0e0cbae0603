"""Trainings through the whole product: request, events, the model that is served, and recovery."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from service.store.connection import connect
from service.store.queue import RUN_TRAINING, TRAINING_QUEUE, JobQueue
from tests.integration.client import Record, events, finished, pictures, post, running, submit, succeeded, wait_for
from tests.integration.server import Server

TINY = {
    "system": "ccoopnets",
    "preset": "small",
    "data": "sample",
    "name": "tiny",
    "iterations": 60,
    "batch_size": 4,
    "overrides": {"refinement.steps": 2},
}
ENDLESS = {**TINY, "name": "endless", "iterations": 1_000_000}


def train(api: httpx.Client, request: dict[str, Any]) -> Record:
    return post(api, "/v1/trainings", **request)


def metrics_of(server: Server, record: Record) -> list[dict[str, float]]:
    """The lines of a training's own log, without the wall time; none before it has written any."""
    log = server.data_dir / "trainings" / record["id"] / "metrics.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def versions(server: Server, name: str) -> list[str]:
    return sorted(path.name for path in (server.data_dir / "models").glob(f"{name}/*"))


@pytest.fixture
def damaged(server: Server) -> dict[str, Any]:
    """A request that is accepted, and fails as soon as a trainer reads its data."""
    (server.data_dir / "data" / "damaged.npz").write_bytes(b"PK cut off")
    return {**TINY, "name": "nonsense", "data": "damaged"}


@pytest.fixture
def send_again(server: Server) -> Iterator[Callable[[Record], None]]:
    """Sends another message for a training, as a broker that delivers twice would."""
    with connect(server.environment()["COOPSERVE_REDIS_URL"]) as client:
        queue = JobQueue(client, RUN_TRAINING, TRAINING_QUEUE)
        yield lambda record: queue.send(record["id"])


def test_a_training_is_followed_and_its_model_served_at_once(server: Server, api: httpx.Client) -> None:
    training = train(api, TINY)
    found = events(api, training)
    record = succeeded(api, training)
    told = [(event.name, event.data) for event in found]
    assert [data["status"] for kind, data in told if kind == "status"] == ["queued", "running", "succeeded"]
    assert any(kind == "progress" and 0 < data["step"] <= data["steps"] == 60 for kind, data in told)
    assert any(kind == "metrics" and "gap" in data for kind, data in told)
    assert [data["iteration"] for kind, data in told if kind == "sample"] == [60]
    assert record["model"] == "tiny@1"
    assert record["metrics"].items() <= metrics_of(server, record)[-1].items()
    (sheet,) = record["samples"]
    assert Image.open(io.BytesIO(api.get(sheet).content)).format == "PNG"
    card = api.get("/v1/models/tiny@1").json()
    assert card["training"]["iterations"] == 60
    assert card["tasks"]["generate"]["defaults"]["steps"] == 2
    assert len(pictures(api, submit(api, model="tiny@1", n=2))) == 2


def test_a_running_training_is_cancelled(server: Server, api: httpx.Client) -> None:
    training = running(api, train(api, ENDLESS))
    api.post(training["links"]["cancel"])
    record = finished(api, training)
    assert (record["status"], record["model"], record["error"]) == ("cancelled", None, None)
    assert not versions(server, "endless")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data": "no-such-data"}, ["no-such-data", "fashion-mnist", "sample"]),
        ({"system": "gan"}, ["gan", "ccoopnets"]),
        ({"preset": "huge"}, ["huge", "small", "paper-cifar10"]),
        ({"preset": "paper-cifar10"}, ["sample", "grey", "paper-cifar10"]),
        ({"system": "cfebm", "overrides": {}, "iterations": 2000}, ["batch_size", "leave batch_size out"]),
        ({"overrides": {"refinement.stride": 2}}, ["refinement.stride", "refinement.steps"]),
        ({"overrides": {"refinement.steps": -2}}, ["refinement.steps", "greater than"]),
    ],
)
def test_what_can_not_work_is_refused_with_the_choices(
    server: Server, api: httpx.Client, change: dict[str, Any], expected: list[str]
) -> None:
    before = {record["id"] for record in api.get("/v1/trainings").json()["items"]}
    answer = api.post("/v1/trainings", json={**TINY, "name": "nonsense", **change})
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors/invalid-request")
    assert all(word in answer.json()["detail"] for word in expected), answer.json()
    assert {record["id"] for record in api.get("/v1/trainings").json()["items"]} == before


def test_data_that_only_a_trainer_finds_damaged_fail_in_words(api: httpx.Client, damaged: dict[str, Any]) -> None:
    record = finished(api, train(api, damaged))
    assert (record["status"], record["model"]) == ("failed", None)
    assert record["error"]["kind"] == "training-failed"
    assert "damaged.npz is not a readable npz archive" in record["error"]["detail"]


def test_what_no_training_could_mean_is_refused(api: httpx.Client) -> None:
    for change in ({"iterations": 0}, {"data": "../secrets"}, {"name": "Not A Name"}, {"unheard": 1}):
        answer = api.post("/v1/trainings", json={**TINY, **change})
        assert (answer.status_code, answer.json()["type"]) == (422, "/errors/invalid-request")


def test_a_killed_trainer_goes_on_from_its_last_save_to_the_same_end(server: Server, api: httpx.Client) -> None:
    quick = {"refinement.steps": 1, "training.label_likelihood": 0}
    request = {**TINY, "name": "killed", "iterations": 150, "batch_size": 2, "overrides": quick}
    broken = running(api, train(api, request))
    wait_for(lambda: [line for line in metrics_of(server, broken) if line["iteration"] == 125])
    server.part("trainer").kill()
    unbroken = train(api, request)
    record = succeeded(api, broken)
    assert record["attempt"] == 2
    assert "the trainer ended with status -9" in server.output()
    told = events(api, broken)
    taken_up = max(k for k, event in enumerate(told) if event.data.get("status") == "running")
    steps = [event.data["step"] for event in told[taken_up:] if event.name == "progress"]
    assert steps
    assert min(steps) >= 100
    assert {record["model"], succeeded(api, unbroken)["model"]} == {"killed@1", "killed@2"}
    assert versions(server, "killed") == ["1", "2"]
    found, expected = metrics_of(server, broken), metrics_of(server, unbroken)
    assert [line["iteration"] for line in found] == [25, 50, 75, 100, 125, 150]
    for line, wanted in zip(found, expected, strict=True):
        assert line == pytest.approx(wanted, abs=1e-6, rel=0)


def test_a_second_message_does_not_start_a_training_twice(
    server: Server, api: httpx.Client, send_again: Callable[[Record], None], damaged: dict[str, Any]
) -> None:
    training = running(api, train(api, {**TINY, "name": "once", "iterations": 100}))
    send_again(training)
    finished(api, train(api, damaged))  # messages are taken in turn: the second one has been by then
    record = succeeded(api, training)
    assert record["attempt"] == 1
    assert [line["iteration"] for line in metrics_of(server, record)] == [25, 50, 75, 100]
    assert versions(server, "once") == ["1"]
    send_again(training)
    finished(api, train(api, damaged))
    assert succeeded(api, training) == record
    assert versions(server, "once") == ["1"]
