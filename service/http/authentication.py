"""Requests and their callers: a middleware that lets requests pass, and what routes ask of a caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.params import Depends as Dependency
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis.exceptions import RedisError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from service.access.keys import Scope
from service.access.security import Caller, Guard
from service.contract.errors import ServiceError
from service.http.problems import render_error, render_redis_error


class Authenticate:
    """Lets requests pass that may, before their body is read, and notes their caller. Plain ASGI."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, client = scope["path"], _address_of(scope)
        headers = Headers(scope=scope)
        query = scope["query_string"].decode("latin-1")
        forwarded = "x-forwarded-for" in headers or "forwarded" in headers
        identify = partial(self._guard.caller, path, headers.get("authorization"), client, forwarded, query)
        try:
            caller = await identify()
            fields = await self._guard.count(path, caller, client)
        except ServiceError as error:
            await render_error(error)(scope, receive, send)
            return
        except RedisError as error:
            await render_redis_error(error)(scope, receive, send)
            return
        scope.setdefault("state", {}).update(caller=caller, identify=identify)
        await self._app(scope, receive, _with_fields(send, fields) if fields else send)


_bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key, `csk_...`.")


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


Who = Annotated[Caller, Depends(_caller)]
"""The parameter by which a route gets the :class:`Caller`."""


Identify = Callable[[], Awaitable[Caller]]
"""Tells the caller of a request anew, or raises AccessError: its key may have been revoked since."""


async def _identify(request: Request) -> Identify:
    identify: Identify = request.state.identify
    return identify


Again = Annotated[Identify, Depends(_identify)]
"""The parameter by which a route that answers for long gets the way to ask again who it answers."""


def name_of(scope: Connection) -> str:
    """What the caller of a request is called where callers are counted: the owner, or else the address."""
    owner = scope["state"]["caller"].owner
    return f"address {_address_of(scope)}" if owner is None else f"owner {owner}"


def _address_of(scope: Connection) -> str:
    return str((scope.get("client") or ("unknown",))[0])


def needs(scope: Scope) -> Dependency:
    """The dependency of routes that need a scope; the documentation shows it, too."""

    async def check(caller: Who, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> None:
        caller.require(scope)

    dependency: Dependency = Depends(check)
    return dependency


def _with_fields(send: Send, fields: dict[str, str]) -> Callable[[Message], Awaitable[Any]]:
    encoded = [(name.lower().encode(), value.encode()) for name, value in fields.items()]

    async def send_with_fields(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *encoded]
        await send(message)

    return send_with_fields
