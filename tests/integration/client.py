"""What a client does: sends a job or training, waits for it, follows it, fetches the pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

import httpx
from httpx_sse import connect_sse

Record = dict[str, Any]
T = TypeVar("T")


class Event(NamedTuple):
    """One server-sent event."""

    id: str
    name: str
    data: dict[str, Any]


TERMINAL = {"succeeded", "failed", "cancelled"}


def wait_for(look: Callable[[], T | None], seconds: float = 60.0, pause: float = 0.02) -> T:
    """The first answer of ``look`` that is neither None nor False; the pauses between looks grow up to ``pause``."""
    begin = time.monotonic()
    while (waited := time.monotonic() - begin) < seconds:
        if answer := look():
            return answer
        time.sleep(min(pause, 0.02 + waited / 10))
    raise AssertionError(f"nothing came within {seconds:.0f} s")


def post(api: httpx.Client, path: str, **body: Any) -> Record:
    """Send a request that must be accepted."""
    answer = api.post(path, json=body)
    assert answer.status_code == 202, answer.text
    record: Record = answer.json()
    assert answer.headers["location"] == record["links"]["self"]
    return record


def submit(api: httpx.Client, **body: Any) -> Record:
    """Send a job of the shipped model, or of the one named."""
    return post(api, "/v1/generate", **{"model": "fashion-ccoopnets", "label": "Sneaker", **body})


def now(api: httpx.Client, record: Record) -> Record:
    """The record as it is now."""
    answer = api.get(record["links"]["self"])
    assert answer.status_code == 200, answer.text
    found: Record = answer.json()
    return found


def finished(api: httpx.Client, record: Record, seconds: float = 90.0) -> Record:
    """The record once nothing more will happen to it."""

    def look() -> Record | None:
        found = now(api, record)
        return found if found["status"] in TERMINAL else None

    return wait_for(look, seconds, pause=0.2)  # a look takes from the server what the job could use


def running(api: httpx.Client, record: Record, step: int = 1) -> Record:
    """The record once it has done so many steps of the refinement (or of the training), and is still at it."""

    def look() -> Record | None:
        found = now(api, record)
        assert found["status"] not in TERMINAL, found
        progress = found["progress"]
        there = progress and progress["stage"] in {"refine", "train"} and progress["step"] >= step
        return found if found["status"] == "running" and there else None

    return wait_for(look)


def succeeded(api: httpx.Client, record: Record) -> Record:
    """The record once it has succeeded."""
    found = finished(api, record)
    assert found["status"] == "succeeded", found
    return found


def pictures(api: httpx.Client, record: Record) -> list[bytes]:
    """The PNG files of a job, once it has succeeded."""
    answers = [api.get(output["url"]) for output in succeeded(api, record)["outputs"]]
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    return [answer.content for answer in answers]


def generate(api: httpx.Client, **body: Any) -> list[bytes]:
    """The PNG files that a request gives."""
    return pictures(api, submit(api, **body))


def events(api: httpx.Client, record: Record, after: str | None = None) -> list[Event]:
    """All events of a record to the end of the stream, or those after an id."""
    return list(follow(api, record, after))


def follow(api: httpx.Client, record: Record, after: str | None = None) -> Generator[Event]:
    """The events of a record as they come."""
    headers = {"Last-Event-ID": after} if after else {}
    with connect_sse(api, "GET", record["links"]["events"], headers=headers) as source:
        source.response.raise_for_status()
        for event in source.iter_sse():
            if event.data:  # the server's sign of life in a silence has none
                yield Event(event.id, event.event, event.json())
