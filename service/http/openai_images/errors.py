"""Errors as the OpenAI API has them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.contract.errors import PROBLEMS
from service.http.problems import MEDIA_TYPE

_CODES = {
    "unknown-model": "model_not_found",
    "unauthenticated": "invalid_api_key",
    "rate-limited": "rate_limit_exceeded",
}
"""Codes that programs look for; every other kind of error is its own code, with underscores."""

_STATUS = {422: 400}
"""That API has one status for all that is wrong with a request."""


class ErrorBody(BaseModel):
    """An error of the OpenAI API."""

    message: str = Field(description="What is wrong, and what to do about it.")
    type: str = Field(description="The family of the error.", examples=["invalid_request_error"])
    param: str | None = Field(None, description="The field that is wrong.")
    code: str | None = Field(None, description="The kind of error, a stable short name.")


class OpenAiError(BaseModel):
    """An error, in the shape of the OpenAI API."""

    error: ErrorBody = Field(description="What went wrong.")


def error_of(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """The document of an error."""
    body = ErrorBody(message=message, type=_family(status), param=param, code=code)
    return OpenAiError(error=body).model_dump()


def answer_of(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None, param: str | None = None
) -> JSONResponse:
    """The answer that carries an error."""
    return JSONResponse(error_of(status, code, message, param), status, headers)


def translated(problem: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """The status and document of an error that the service has as a problem document."""
    kind, status = str(problem["type"]).rpartition("/")[2], int(problem["status"])
    status = _STATUS.get(status, status)
    errors = problem.get("errors")
    param = ".".join(str(part) for part in errors[0]["loc"][1:]) or None if errors else None
    message = problem["detail"] if errors else f"{problem['detail']}. {problem['remedy']}"
    return status, error_of(status, _code(kind), message, param)


def _code(kind: str) -> str:
    return _CODES.get(kind, kind.replace("-", "_"))


def _family(status: int) -> str:
    if status >= 500:
        return "server_error"
    return {403: "permission_error", 429: "rate_limit_error"}.get(status, "invalid_request_error")


def documented(kinds: Sequence[str]) -> dict[int | str, dict[str, Any]]:
    """The documentation of errors for a route's ``responses``, by status."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        problem = PROBLEMS[kind]
        status = _STATUS.get(problem.status, problem.status)
        entry = found.setdefault(status, {"model": OpenAiError, "description": ""})
        line = f"**{_code(kind)}**: {problem.title}. {problem.remedy}"
        entry["description"] = f"{entry['description']}\n\n{line}".strip()
    return found


class ErrorsInItsShape:
    """Turns the problem documents of some addresses, whoever answers them, into errors of the OpenAI API. Plain ASGI.

    Args:
        app: what comes after.
        paths: the addresses.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app, self._paths = app, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] not in self._paths or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _translating(send))


def _translating(send: Send) -> Send:
    held: Message | None = None
    body = b""

    async def translate(message: Message) -> None:
        nonlocal held, body
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            if headers.get("content-type") == MEDIA_TYPE:
                held = message
                return
        elif held is not None and message["type"] == "http.response.body":
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            status, document = translated(json.loads(body))
            content = json.dumps(document).encode()
            headers = MutableHeaders(raw=held["headers"])
            headers["content-type"], headers["content-length"] = "application/json", str(len(content))
            await send({**held, "status": status})
            await send({"type": "http.response.body", "body": content})
            return
        await send(message)

    return translate
