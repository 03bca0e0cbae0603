"""Which site a request was meant for, and which one it comes from, where nobody is asked for a key.

A browser on this machine reaches the API on a loopback address, whoever wrote the page that it shows. Two fields of the
request tell: ``Host`` names the site that the page called, which is not this one when its name was made to resolve to a
loopback address, and ``Origin`` names the page's own.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.addresses import is_loopback
from service.http.problems import render
from service.settings import Settings

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class OwnSite:
    """Lets requests pass that name this machine or an allowed host, and that no foreign page has sent. Plain ASGI.

    Args:
        app: what comes after.
        settings: which hosts and origins are allowed.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = settings.allowed_host_names | {settings.host.lower()}
        self._origins = settings.cors_origin_list

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await render("foreign-site", problem, {})(scope, receive, send)

    def _problem(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host"), headers.get("origin")
        if host is not None and not self._own(f"//{host}"):  # HTTP/1.0 needs none, but browsers send it
            return f"the Host {host[:100]!r} is not this server"
        if scope["method"] in _READING or origin is None or origin in self._origins or self._own(origin):
            return None
        return f"the page that sends this is of {origin[:100]!r}, another site"

    def _own(self, address: str) -> bool:
        try:
            name = urlsplit(address).hostname
        except ValueError:
            return False
        return name is not None and (name in self._hosts or is_loopback(name))
