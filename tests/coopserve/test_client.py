"""The client against servers that misbehave: what it sends again, where its key goes, and which error comes of what."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from coopserve.client import (
    ApiError,
    AsyncClient,
    AuthenticationError,
    Client,
    ConflictError,
    InvalidPictureError,
    JobCancelledError,
    JobFailedError,
    LimitError,
    NotFoundError,
    RedirectedError,
    ServerError,
    UnavailableError,
    UnreachableError,
    UnsupportedTaskError,
    WaitTimeoutError,
)
from coopserve.client.calls import Calls
from service.contract.errors import PROBLEMS

RECORD: dict[str, Any] = {
    "id": "job_1",
    "status": "succeeded",
    "outputs": [{"url": "/v1/jobs/job_1/images/0", "seed": 7, "energy": -1.5, "extras": {}}],
    "warnings": [],
    "error": None,
}
Answer = Callable[[httpx.Request], httpx.Response]


class Script:
    """A server that answers each request with the next entry; None loses the connection."""

    def __init__(self, *answers: httpx.Response | None) -> None:
        self.answers, self.requests = list(answers), list[httpx.Request]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if answer is None:
            raise httpx.ReadError("lost")
        return answer

    def client(self, url: str = "http://here:8000", key: str | None = "csk_secret", **options: Any) -> Client:
        return Client(url, key, transport=httpx.MockTransport(self), **options)


def problem(kind: str, **headers: str) -> httpx.Response:
    about = PROBLEMS[kind]
    content = {"type": f"/errors/{kind}", "status": about.status, "detail": "d", "remedy": about.remedy}
    return httpx.Response(about.status, json=content, headers={"Retry-After": "0", **headers})


def ok(record: dict[str, Any] | None = None, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=record or RECORD)


def test_a_lost_answer_is_asked_for_again_with_the_same_idempotency_key() -> None:
    script = Script(None, problem("unavailable"), problem("queue-full"), ok(), httpx.Response(200, content=b"png"))
    result = script.client().run("generate", model="m")
    assert [picture.data for picture in result.images] == [b"png"]
    assert (result.images[0].seed, result.images[0].energy) == (7, -1.5)
    posts = script.requests[:4]
    assert len({request.headers["idempotency-key"] for request in posts}) == 1
    assert len({request.content for request in posts}) == 1
    assert posts[0].headers["prefer"] == "wait=30"


def test_it_gives_up_after_so_many_times() -> None:
    script = Script(None, None, ok())
    with pytest.raises(UnreachableError, match="http://here:8000 does not answer: lost"):
        script.client(retries=1).submit("generate", model="m")
    assert len(script.requests) == 2


@pytest.mark.parametrize("kind", ["invalid-request", "unknown-model", "too-much-stored", "internal"])
def test_what_cannot_help_is_not_sent_again(kind: str) -> None:
    script = Script(problem(kind), ok())
    with pytest.raises(ApiError):
        script.client().submit("generate", model="m")
    assert len(script.requests) == 1


def test_a_data_set_is_not_sent_twice() -> None:
    script = Script(None, ok())
    with pytest.raises(UnreachableError):
        script.client().upload_data(b"zip", "mine")
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("unauthenticated", AuthenticationError),
        ("unknown-model", NotFoundError),
        ("name-taken", ConflictError),
        ("idempotency-conflict", ConflictError),
        ("unsupported-task", UnsupportedTaskError),
        ("invalid-image", InvalidPictureError),
        ("rate-limited", LimitError),
        ("storage-full", UnavailableError),
        ("internal", ServerError),
    ],
)
def test_problems_are_types(kind: str, error: type[ApiError]) -> None:
    with pytest.raises(error) as caught:
        Script(problem(kind, **{"X-Request-ID": "r1"})).client(retries=0).models()
    assert type(caught.value) is error
    assert (caught.value.kind, caught.value.status, caught.value.request_id) == (kind, PROBLEMS[kind].status, "r1")
    assert PROBLEMS[kind].remedy in str(caught.value)


def test_a_page_of_a_proxy_is_an_error_too() -> None:
    with pytest.raises(UnavailableError, match="the server answered 502"):
        Script(httpx.Response(502, text="<html>")).client(retries=0).models()


@pytest.mark.parametrize(
    ("url", "link", "told"),
    [
        ("http://here:8000", "/v1/jobs/job_1/images/0", True),
        ("http://here:8000/", "http://here:8000/v1/jobs/job_1/images/0", True),
        ("https://here/images", "/images/v1/jobs/job_1/images/0", True),
        ("http://here:8000", "http://elsewhere:8000/picture.png", False),
        ("http://here:8000", "http://here:8001/picture.png", False),
        ("https://here", "http://here/picture.png", False),
        ("http://here:8000", "//elsewhere/picture.png", False),
        ("http://here:8000", "http://here:8000@elsewhere/picture.png", False),
    ],
)
def test_the_key_goes_to_its_own_origin_alone(url: str, link: str, told: bool) -> None:
    script = Script(httpx.Response(200, content=b""))
    script.client(url).file(link)
    (request,) = script.requests
    assert (request.headers.get("authorization") == "Bearer csk_secret") is told
    assert ("csk_secret" in f"{request.url} {request.headers.raw}") is told


def test_a_redirection_is_not_followed() -> None:
    script = Script(httpx.Response(307, headers={"Location": "http://elsewhere/v1/models"}))
    with pytest.raises(RedirectedError, match="elsewhere"):
        script.client().models()
    assert len(script.requests) == 1


def test_the_key_is_not_shown() -> None:
    assert "csk_secret" not in repr(Calls("http://here", "csk_secret", 3))


@pytest.mark.parametrize(
    ("url", "key"), [("here:8000", None), ("ftp://here", None), ("http://here", "a\nb"), ("", None)]
)
def test_addresses_and_keys_that_can_be_none_are_refused(url: str, key: str | None) -> None:
    with pytest.raises(ValueError, match=r"address|key"):
        Client(url, key)


def test_jobs_that_end_otherwise_are_errors() -> None:
    failed = {**RECORD, "status": "failed", "error": {"kind": "diverged", "detail": "lower step_size"}}
    with pytest.raises(JobFailedError, match="diverged: lower step_size") as caught:
        Script(ok(failed)).client().run("generate", model="m")
    assert (caught.value.kind, caught.value.record["id"]) == ("diverged", "job_1")
    with pytest.raises(JobCancelledError):
        Script(ok({**RECORD, "status": "cancelled"})).client().run("generate", model="m")
    running = {**RECORD, "status": "running"}
    with pytest.raises(WaitTimeoutError, match="job_1 is running"):
        Script(ok(running, 202), ok(running)).client().submit("generate", model="m").result(timeout=0)


def test_pictures_are_sent_as_data_uris(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("L", (2, 2), 9).save(file, "PNG")
    (tmp_path / "a.png").write_bytes(file.getvalue())
    script = Script(ok())
    given = [tmp_path / "a.png", file.getvalue(), Image.new("L", (2, 2), 9), "img_1"]
    script.client().submit("interpolate", model="m", images=given, options={"factor": 2})
    sent = json.loads(script.requests[0].content)
    assert len(set(sent["images"][:3])) == 1
    assert sent["images"][0].startswith("data:application/octet-stream;base64,iVBOR")
    assert (sent["images"][3], sent["options"]) == ("img_1", {"factor": 2})


def stream(*events: tuple[str, str, dict[str, Any]], broken: bool = False) -> httpx.Response:
    def content() -> Iterator[bytes]:
        yield b": ping\r\n\r\n"
        for id, name, data in events:
            yield f"id: {id}\r\nevent: {name}\r\ndata: {json.dumps(data)}\r\n\r\n".encode()
        if broken:
            raise httpx.ReadError("cut")

    return httpx.Response(200, content=content())


def test_a_stream_that_breaks_is_taken_up_where_it_broke() -> None:
    first = stream(("1-0", "status", {"status": "running"}), ("2-0", "progress", {"step": 1}), broken=True)
    script = Script(ok(), first, None, stream(("3-0", "status", {"status": "succeeded"})))
    events = list(script.client().job("job_1").events())
    assert [event.id for event in events] == ["1-0", "2-0", "3-0"]
    assert [event.last for event in events] == [False, False, True]
    assert [request.headers.get("last-event-id") for request in script.requests[1:]] == [None, "2-0", "2-0"]


def test_a_stream_that_is_refused_is_an_error() -> None:
    with pytest.raises(NotFoundError):
        list(Script(ok(), problem("unknown-job")).client().job("job_1").events())


def test_lists_go_on_to_their_end() -> None:
    pages = [ok({"items": [{**RECORD, "id": "job_2"}], "next": "job_2"}), ok({"items": [RECORD], "next": None})]
    script = Script(*pages)
    assert [job.id for job in script.client().jobs("succeeded")] == ["job_2", "job_1"]
    assert script.requests[1].url.params["cursor"] == "job_2"


def test_the_asynchronous_client_does_the_same() -> None:
    lost = stream(("1-0", "status", {"status": "running"}))
    script = Script(
        None, ok(), httpx.Response(200, content=b"png"), lost, stream(("2-0", "status", {"status": "failed"}))
    )

    async def answer(request: httpx.Request) -> httpx.Response:
        response = script(request)
        return httpx.Response(response.status_code, content=response.read())

    async def use() -> None:
        async with AsyncClient("http://here", "csk_secret", transport=httpx.MockTransport(answer)) as client:
            job = await client.submit("generate", model="m")
            result = await client.do(client.calls.pictures(job.record))
            assert [picture.data for picture in result.images] == [b"png"]
            assert [event.id async for event in job.events()] == ["1-0", "2-0"]

    asyncio.run(use())
    assert script.requests[-1].headers["last-event-id"] == "1-0"
