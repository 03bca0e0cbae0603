"""What happens to every request: it gets an id, is counted and timed, and its body is bounded.

Plain ASGI, so it costs microseconds.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.problems import render
from service.observe.logs import request_id
from service.observe.metrics import HttpMetrics

_HEADER = b"x-request-id"
_ACCEPTED = re.compile(rb"[A-Za-z0-9_.-]{1,100}")


class RequestContext:
    """Gives each request an id (the client's own, if it is plain), in the answer's X-Request-ID and in the logs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        own = sent if _ACCEPTED.fullmatch(sent) else uuid.uuid4().hex.encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_HEADER, own)]
            await send(message)

        token = request_id.set(own.decode())
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            request_id.reset(token)


class Observe:
    """Counts requests and measures how long they take, by the template of their route."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            # The router has written the route that matched into the scope by now.
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.observe(scope["method"], route, status, time.perf_counter() - started)


class BodyLimit:
    """Refuses bodies over a number of bytes: at once where the length is declared, else when they grow past it.

    Args:
        app: what comes after.
        limit: most bytes of a body.
        limits: other limits, by path.
    """

    def __init__(self, app: ASGIApp, limit: int, limits: Mapping[str, int]) -> None:
        self._app = app
        self._limit = limit
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], self._limit)
        detail = f"the body has more than {limit} bytes"
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(declared) > limit:  # the server has checked that it is a number
            await render("body-too-large", detail, {})(scope, receive, send)
            return
        received = 0

        async def receive_some() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, detail)
            return message

        await self._app(scope, receive_some, send)
