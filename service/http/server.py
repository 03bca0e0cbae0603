"""The web server under the API, and what it asks of a connection before there is a request.

uvicorn with h11: it bounds the head of a request (16 KiB while it is incomplete) and speaks plain HTTP/1.0, but neither
it nor its alternatives limits how long a head may take. :class:`Connection` does.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from functools import partial
from typing import Any, cast, final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.settings import Settings

KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than proxies and clients do, which close theirs after a minute. If the
API closed first, it could lose a request that is on its way."""

_SHUTDOWN_SECONDS = 5
_DESCRIPTORS = 65_536
_BACKLOG = 2048


def make_server(app: FastAPI, settings: Settings) -> uvicorn.Server:
    """The server of an app, not started."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = Connections(settings.head_seconds, limit // 2)  # a stream of events takes another one to Redis
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=partial(Connection, connections=connections),  # type: ignore[arg-type]  # uvicorn calls it, whatever it is
        ws="none",
        log_config=None,  # uvicorn logs where coopserve logs
        log_level=settings.log_level,
        access_log=settings.log_level == "debug",
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or [],
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    return uvicorn.Server(config)


def listening(settings: Settings) -> list[socket.socket] | None:
    """What the server is to listen on; None: what host and port say, which uvicorn sees to.

    ``::`` is all addresses, those of IPv4 too, where the system lets one socket take both.
    """
    if settings.host != "::" or not socket.has_dualstack_ipv6():
        return None
    return [socket.create_server(("::", settings.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)]


def raise_descriptors() -> None:
    """Let this process have as many open connections as its system allows; often only 1024 are given at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@final
class Connections:
    """All connections, those first that have said nothing for longest.

    Args:
        head_seconds: how long the head of a request may take.
        most: beyond so many connections the first one without a request in work is closed when another comes, so that
            those who say nothing shut nobody out.
    """

    def __init__(self, head_seconds: float, most: int) -> None:
        self._head_seconds, self._most = head_seconds, most
        self._all: dict[Connection, None] = {}

    def add(self, connection: Connection) -> None:
        """Note that a connection has said something, or that it is new."""
        self._all.pop(connection, None)
        self._all[connection] = None
        if len(self._all) > self._most and (idle := next((each for each in self._all if not each.busy), None)):
            idle.close()

    def remove(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        self._all.pop(connection, None)

    def time(self, connection: Connection) -> asyncio.TimerHandle:
        """Close a connection unless the head of a request comes in time."""
        return asyncio.get_running_loop().call_later(self._head_seconds, connection.close)


@final
class Connection(asyncio.Protocol):
    """uvicorn's protocol of a connection, with a time limit from the first byte of a head to its last.

    Args:
        connections: all of them.
        options: what uvicorn gives its protocol.
    """

    def __init__(self, *, connections: Connections, **options: Any) -> None:
        self._inner, self._connections = H11Protocol(**options), connections
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is in work."""
        return self._inner.cycle is not None and not self._inner.cycle.response_complete

    def close(self) -> None:
        """Drop it, whatever it may still say."""
        self._connections.remove(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._inner.connection_made(self._transport)
        self._timer = self._connections.time(self)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)
        self._connections.add(self)
        if self.busy:
            self._forget_time()
        elif self._timer is None:
            self._timer = self._connections.time(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_time()
        self._connections.remove(self)
        self._inner.connection_lost(exc)

    def eof_received(self) -> None:
        self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def _forget_time(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
