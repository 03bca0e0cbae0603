"""Bodies of requests: how large each may be, how long it may take, and how many bytes of them are in work at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import final

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.contract.errors import ServiceError
from service.http.authentication import name_of
from service.http.problems import render, render_error

_SMALL_BYTES = 2**16
"""Bodies of this size are read at once: the server buffers as much of every connection anyway."""
_WAIT_SECONDS = 30.0
_STREAMED_BYTES = 2**20
"""A body that goes to the disk as it comes must bring so much in the time that another body has."""


@final
class BodyBudget:
    """Bytes of bodies that may be in work at a time: from when they are read until their requests are answered.

    Args:
        total: for all; a greater body counts as so much.
        wait_seconds: for how long a request waits for its turn.
    """

    def __init__(self, total: int, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._total, self._wait_seconds = total, wait_seconds
        self._held: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, name: str, size: int) -> AsyncIterator[None]:
        """Take bytes of the budget, once there are any left and the caller has less than half of it.

        Args:
            name: whose they are.
            size: how many.

        Raises:
            ServiceError: there was no room in time (503).
        """
        size = min(size, self._total)
        try:
            async with asyncio.timeout(self._wait_seconds), self._changed:
                await self._changed.wait_for(lambda: self._fits(name, size))
                self._held[name] += size
        except TimeoutError:
            detail = "the bodies of other requests take all the memory that there is for them"
            raise ServiceError("unavailable", detail) from None
        try:
            yield
        finally:
            self._held[name] -= size
            if not self._held[name]:
                del self._held[name]
            async with self._changed:
                self._changed.notify_all()

    def _fits(self, name: str, size: int) -> bool:
        own = self._held[name]
        return self._held.total() + size <= self._total and (not own or own + size <= self._total // 2)


@final
class BodyLimit:
    """Refuses bodies over a number of bytes, and those that take too long; large ones wait for their turn.

    Args:
        app: what comes after.
        limit: most bytes of a body.
        limits: other limits, by path.
        seconds: how long a body may take once it is read.
        budget: of all bodies together.
        streamed: limits of bodies that go to the disk as they come, by path; they take nothing of the budget.
    """

    def __init__(
        self,
        app: ASGIApp,
        limit: int,
        limits: Mapping[str, int],
        seconds: float,
        budget: BodyBudget,
        streamed: Mapping[str, int],
    ) -> None:
        self._app, self._limit, self._limits = app, limit, {**limits, **streamed}
        self._seconds, self._budget, self._streamed = seconds, budget, streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], self._limit)
        size = _declared(scope, limit)
        encoding = next((value for name, value in scope["headers"] if name == b"content-encoding"), b"identity")
        if encoding.strip().lower() not in (b"", b"identity"):
            detail = f"it has the Content-Encoding {encoding.decode('latin-1')[:100]!r}"
            await render("compressed-body", detail, {}, {"Accept-Encoding": "identity"})(scope, receive, send)
        elif size > limit:
            await render("body-too-large", _too_large(limit), {})(scope, receive, send)
        elif scope["path"] in self._streamed:
            await self._app(scope, self._bounded(receive, limit, self._seconds / _STREAMED_BYTES), send)
        elif size <= _SMALL_BYTES:
            await self._app(scope, self._bounded(receive, limit), send)
        else:
            try:
                async with self._budget.hold(name_of(scope), size):
                    await self._app(scope, self._bounded(receive, limit), send)
            except ServiceError as error:
                await render_error(error)(scope, receive, send)

    def _bounded(self, receive: Receive, limit: int, seconds_a_byte: float = 0.0) -> Receive:
        received, more = 0, True
        deadline = asyncio.get_running_loop().time() + self._seconds

        async def receive_some() -> Message:
            nonlocal received, more
            try:
                async with asyncio.timeout_at(deadline + received * seconds_a_byte if more else None):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body did not come within {self._seconds:g} s") from None
            received += len(message.get("body", b""))
            more = more and message.get("more_body", False)
            if received > limit:
                raise HTTPException(413, _too_large(limit))
            return message

        return receive_some


def _too_large(limit: int) -> str:
    return f"the body has more than {limit} bytes"


def _declared(scope: Scope, limit: int) -> int:
    """The size that a request says its body has; one that does not say may have all that is allowed."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers:
        return limit
    return int(headers.get(b"content-length", b"0"))  # the server has checked that it is a number
