"""What happens to every request: it gets an id, is counted and timed, and a HEAD is answered as a GET.

Plain ASGI, so it costs microseconds.
"""

from __future__ import annotations

import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


class HeadAsGet:
    """Answers HEAD wherever there is a GET: as that, without the body. Routes see a GET, and ``state.head``.

    A stream of events is not begun then, for it would not end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["head"] = True
        get = {**scope, "method": "GET"}  # the server below knows that it is a HEAD, and sends no body
        try:
            await self._app(get, receive, send)
        finally:
            scope["route"] = get.get("route")  # which metrics are counted by
