"""The path under which a proxy shows the API: taken from requests, and put before the addresses in answers."""

from __future__ import annotations

from contextvars import ContextVar
from urllib.parse import urlsplit, urlunsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

root: ContextVar[str] = ContextVar("root", default="")
"""The path of the present request, without a slash at its end; '' where there is none."""


class UnderRoot:
    """Takes requests with the path, and without it (a proxy may have cut it off). Plain ASGI.

    Location fields get the path as well, and lose scheme and host: a client goes on where it reached the API.

    Args:
        app: what comes after.
        path: the path.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app, self._path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_under_root(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                if "location" in headers:
                    headers["location"] = self._path + urlunsplit(("", "", *urlsplit(headers["location"])[2:]))
            await send(message)

        if self._path and f"{scope['path']}/".startswith(f"{self._path}/"):
            scope["path"] = scope["path"][len(self._path) :] or "/"
            scope["raw_path"] = scope["raw_path"][len(self._path) :] or b"/"
        token = root.set(self._path)
        try:
            await self._app(scope, receive, send_under_root)
        finally:
            root.reset(token)
