"""Strict reading of JSON bodies: one that is not plainly JSON is refused before anything else looks at it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from service.contract.errors import UnsupportedMediaTypeError
from service.http.problems import MalformedJsonError

MAX_VALUES = 100_000
"""A body of pictures may be long, but has few values; as many as its length allows would take gigabytes."""
_EXACT = 2**53  # beyond it a float no longer tells which whole number was meant


class StrictJsonRequest(Request):
    """A request whose body is parsed without Python's leniency.

    Refuses NaN and infinity, invalid UTF-8, lone surrogates, and nesting, numbers or lists so great that they cost
    memory.
    """

    async def json(self) -> Any:
        """The body.

        Raises:
            MalformedJsonError: it is not JSON.
        """
        body = await self.body()
        if sum(body.count(sign) for sign in (b"[", b"{", b",")) > MAX_VALUES:
            raise MalformedJsonError(f"it has more than {MAX_VALUES} values")
        try:
            return _whole(from_json(body, allow_inf_nan=False))
        except ValueError as error:
            raise MalformedJsonError(str(error)[:300]) from None


def _whole(value: Any) -> Any:
    """The same value with whole numbers as integers: JSON has one kind of number, and some clients write 4 as 4.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    return value


class JsonRoute(APIRoute):
    """A route that takes a JSON body and reads it strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind a check of the content type."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            content_type = request.headers.get("content-type", "")
            if content_type.partition(";")[0].strip().lower() != "application/json":
                raise UnsupportedMediaTypeError(content_type)
            return await handler(StrictJsonRequest(request.scope, request.receive))

        return strict
