"""What the client says to a server, without a connection: generators that ask for a request or a pause at a time.

The blocking client and the asynchronous one drive the same generators, so both behave alike.
"""

from __future__ import annotations

import base64
import io
import os
import random
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, final

import httpx

from coopserve.client.errors import (
    ApiError,
    JobCancelledError,
    JobFailedError,
    RedirectedError,
    UnreachableError,
    WaitTimeoutError,
    error_of,
)
from coopserve.client.results import TERMINAL, Picture, Result

T = TypeVar("T")
Record = dict[str, Any]

_PASSING = frozenset({429, 502, 503, 504})
_LASTING = frozenset({"too-much-stored", "over-budget"})
_LONGEST_PAUSE = 30.0
_FIRST_LOOK, _LAST_LOOK = 0.05, 2.0
_EVENT_SILENCE = 60.0
"""Seconds; the server gives a sign of life much oftener."""


@dataclass(frozen=True)
class Send:
    """Have this request sent; what comes back is its answer, or the error of the connection."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str]
    json: Any = None
    files: Any = None
    data: Any = None
    params: Mapping[str, Any] | None = None
    wait: float = 0.0
    """How long the server may hold the answer, in seconds."""

    def request(self, timeout: float) -> dict[str, Any]:
        """What httpx is to send, where the server may be silent for so many seconds beside ``wait``."""
        return {k: v for k, v in vars(self).items() if k != "wait"} | {"timeout": timeout + self.wait}


@dataclass(frozen=True)
class Pause:
    """Let so many seconds pass."""

    seconds: float


Answer: TypeAlias = httpx.Response | httpx.TransportError | None
Call: TypeAlias = Generator[Send | Pause, Answer, T]


@final
@dataclass(frozen=True)
class Calls:
    """The requests of a client.

    Args:
        url: of the server, with the path under which a proxy shows it.
        key: an API key. It goes to the origin of ``url`` alone.
        retries: how often a request is sent again that may succeed later and can't be done twice.
    """

    url: str
    key: str | None = field(repr=False)
    retries: int

    def __post_init__(self) -> None:
        if httpx.URL(self.url).scheme not in ("http", "https") or not httpx.URL(self.url).host:
            raise ValueError(f"give the address of a server, such as http://127.0.0.1:8000, not {self.url!r}")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable() and self.key.strip()):
            raise ValueError("the API key has characters that no key has")

    def address(self, link: str) -> httpx.URL:
        """The address of a link in an answer, which begins at the root of the server."""
        return httpx.URL(self.url).join(link)

    def own(self, path: str) -> httpx.URL:
        """The address of a path of the API, below the server's own."""
        return httpx.URL(self.url.rstrip("/") + path)

    def headers(self, url: httpx.URL, **more: str) -> dict[str, str]:
        """The fields of a request; the key is among them for the server's own addresses alone."""
        if self.key is None or _origin(url) != _origin(httpx.URL(self.url)):
            return more
        return {"Authorization": f"Bearer {self.key}", **more}

    def get(self, path: str, **params: Any) -> Call[Any]:
        """The JSON at a path."""
        url = self.own(path)
        known = {name: value for name, value in params.items() if value is not None}
        return (yield from self._answered(Send("GET", url, self.headers(url), params=known))).json()

    def delete(self, path: str) -> Call[None]:
        """Delete what is at a path."""
        url = self.own(path)
        yield from self._answered(Send("DELETE", url, self.headers(url)))

    def submit(self, path: str, body: Mapping[str, Any], wait: float = 0.0) -> Call[Record]:
        """Post a job or training, once however often it is sent; gives its record."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        if wait:
            headers["Prefer"] = f"wait={wait:g}"
        url, content = self.own(path), {name: sendable(value) for name, value in body.items()}
        send = Send("POST", url, self.headers(url, **headers), json=content, wait=wait)
        record: Record = (yield from self._answered(send)).json()
        return record

    def cancel(self, path: str) -> Call[Record]:
        """Cancel a job or training; gives its record."""
        url = self.own(f"{path}/cancel")
        record: Record = (yield from self._answered(Send("POST", url, self.headers(url)))).json()
        return record

    def upload(self, path: str, file: Any, *, again: bool, **fields: str) -> Call[Record]:
        """Send a file.

        Args:
            path: where to.
            file: as :func:`file_of` takes it.
            again: whether it may be sent again if the answer was lost.
            fields: further fields of the form.
        """
        url = self.own(path)
        send = Send("POST", url, self.headers(url), files={"file": file_of(file)}, data=fields)
        answer: Record = (yield from self._answered(send, again=again)).json()
        return answer

    def ended(self, path: str, timeout: float | None) -> Call[Record]:
        """The record of a job or training that has succeeded.

        Raises:
            JobError: it has not.
            WaitTimeoutError: it had not ended after ``timeout`` seconds.
        """
        begin, pause = time.monotonic(), _FIRST_LOOK
        while (record := (yield from self.get(path)))["status"] not in TERMINAL:
            left = float("inf") if timeout is None else timeout - (time.monotonic() - begin)
            if left <= 0:
                raise WaitTimeoutError(f"{record['id']} is {record['status']} after {timeout:g} s; it goes on")
            yield Pause(min(pause, left))
            pause = min(1.5 * pause, _LAST_LOOK)
        return checked(record)

    def result(self, path: str, timeout: float | None) -> Call[Result]:
        """What a job has made, once it has succeeded; errors are those of :meth:`ended`."""
        record = yield from self.ended(path, timeout)
        return (yield from self.pictures(record))

    def run(self, task: str, body: Mapping[str, Any], timeout: float | None) -> Call[Result]:
        """A job from its request to its pictures, in as few requests as possible."""
        begin = time.monotonic()
        wait = _LONGEST_PAUSE if timeout is None else min(timeout, _LONGEST_PAUSE)
        record = yield from self.submit(f"/v1/{task}", body, wait)
        if record["status"] in TERMINAL:
            return (yield from self.pictures(checked(record)))
        left = None if timeout is None else max(0.0, timeout - (time.monotonic() - begin))
        return (yield from self.result(f"/v1/jobs/{record['id']}", left))

    def pictures(self, record: Record) -> Call[Result]:
        """The pictures of a job that has succeeded."""
        pictures = []
        for output in record["outputs"]:
            if output["url"]:
                pictures.append(Picture((yield from self.file(output["url"])), output))
        return Result(record, pictures)

    def file(self, link: str) -> Call[bytes]:
        """The file at a link of an answer."""
        url = self.address(link)
        return (yield from self._answered(Send("GET", url, self.headers(url)))).content

    def follow(self, path: str, after: str | None) -> Send:
        """The request of a stream of events."""
        url = self.own(f"{path}/events")
        headers = self.headers(url, Accept="text/event-stream", **({"Last-Event-ID": after} if after else {}))
        return Send("GET", url, headers, wait=_EVENT_SILENCE)

    def _answered(self, send: Send, *, again: bool = True) -> Call[httpx.Response]:
        """The good answer to a request, which is sent again where that may help."""
        for attempt in range(self.retries + 1):
            answer = yield send
            last = attempt == self.retries
            if isinstance(answer, httpx.TransportError):
                if last or not (again or isinstance(answer, httpx.ConnectError)):
                    raise unreachable(send, answer) from answer
                yield Pause(pause_of(attempt))
                continue
            assert answer is not None
            if answer.is_success:
                return answer
            error = refusal(answer)
            pause = max(error.retry_after or 0.0, pause_of(attempt))
            passing = error.status in _PASSING and error.kind not in _LASTING
            if last or not again or not passing or pause > _LONGEST_PAUSE:
                raise error
            yield Pause(pause)
        raise AssertionError("the last attempt answers or raises")


def checked(record: Record) -> Record:
    """A record that has ended, if it has succeeded.

    Raises:
        JobError: it has not.
    """
    if record["status"] == "failed":
        raise JobFailedError(record)
    if record["status"] == "cancelled":
        raise JobCancelledError(record)
    return record


def refusal(answer: httpx.Response) -> ApiError:
    """The error that an answer is.

    Raises:
        RedirectedError: it leads elsewhere.
    """
    if answer.is_redirect:
        raise RedirectedError(f"{answer.url} leads to {answer.headers.get('location')}; give the client that address")
    try:
        document = answer.json()
    except ValueError:  # a proxy's own page
        document = None
    return error_of(answer.status_code, document, answer.headers)


def unreachable(send: Send, error: Exception) -> UnreachableError:
    """The error for a server that does not answer."""
    return UnreachableError(f"{_origin(send.url)} does not answer: {error or type(error).__name__}")


def pause_of(attempt: int) -> float:
    """Seconds before a request is sent again; many clients do not come back at once."""
    return float(min(0.2 * 2**attempt, 10.0) * random.uniform(0.5, 1.0))


def sendable(value: Any) -> Any:
    """A value of a request as JSON: files, bytes and PIL images become data URIs."""
    if isinstance(value, dict):
        return {name: sendable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [sendable(each) for each in value]
    if isinstance(value, bytes | os.PathLike) or _is_picture(value):
        _, data = file_of(value)
        return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"
    return value


def file_of(value: Any) -> tuple[str, bytes]:
    """Name and bytes of a path, of bytes, or of a PIL image.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(value, bytes):
        return "file", value
    if isinstance(value, str | os.PathLike):
        return Path(value).name, Path(value).read_bytes()
    if _is_picture(value):
        file = io.BytesIO()
        value.save(file, "PNG")
        return "picture.png", file.getvalue()
    raise TypeError(f"give a path, bytes or a PIL image, not {type(value).__name__}")


def _is_picture(value: Any) -> bool:
    """Whether it is a PIL image; Pillow itself is not needed to tell."""
    return hasattr(value, "save") and hasattr(value, "getbands")


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"
