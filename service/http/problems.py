"""Every error as one ``application/problem+json`` document (RFC 9457), and its page in the API reference."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import OutOfMemoryError, RedisError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response
from starlette.routing import Match

from service.contract.errors import PROBLEMS, ServiceError
from service.http.root import root

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2
_ERRORS_SHOWN = 20
_TEXT_SHOWN = 300

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_KIND_OF_STATUS = {
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "body-too-large",
    415: "unsupported-media-type",
    422: "invalid-request",
    503: "unavailable",
    507: "storage-full",
}


class FieldError(BaseModel):
    """What is wrong with one field."""

    loc: list[str | int] = Field(description="Where: `body`, `query`, `path` or `header`, then the field.")
    msg: str = Field(description="What is wrong, in words.")
    type: str = Field(description="What is wrong, as a stable short name.")


class ProblemDocument(BaseModel):
    """An error. `type` names the kind and can be opened; other members may follow."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="Address of the kind of error; stable.", examples=["/errors/invalid-request"])
    title: str = Field(description="The kind of error in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong with this request.")
    remedy: str = Field(description="What to do about it.")
    errors: list[FieldError] | None = Field(None, description="The fields that are wrong, where fields are wrong.")


class MalformedJsonError(HTTPException):
    """The body can't be read as JSON (400)."""

    def __init__(self, reason: str) -> None:
        super().__init__(400, f"the body is not valid JSON: {reason}")


def render(kind: str, detail: str, extras: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """The response for an error of a kind of :data:`service.contract.errors.PROBLEMS`."""
    problem = PROBLEMS[kind]
    content = {
        "type": f"{root.get()}/errors/{kind}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "remedy": problem.remedy,
        **extras,
    }
    retry = {"Retry-After": str(RETRY_SECONDS)} if problem.status in (429, 503, 507) else {}
    return JSONResponse(content, problem.status, {**retry, **(headers or {})}, media_type=MEDIA_TYPE)


def render_error(error: ServiceError) -> Response:
    """The response for an error of the service."""
    return render(error.kind, error.detail, error.extras, error.headers)


def render_redis_error(error: Exception) -> Response:
    """The response for a failure of Redis, which is logged."""
    log.error("Redis failed: %s", error)
    if isinstance(error, OutOfMemoryError):
        return render("storage-full", "the database is full", {})
    return render("unavailable", "the database does not answer", {})


def _service_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return render_error(error)


def _validation_error(_: Request, error: Exception) -> Response:
    """The schema's errors, without the input: it may be huge, or hold what JSON can't."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    errors = [
        {
            "loc": [part if isinstance(part, int) else str(part)[:_TEXT_SHOWN] for part in item["loc"]],
            "msg": _message(str(item["msg"])),
            "type": item["type"],
        }
        for item in found[:_ERRORS_SHOWN]
    ]
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or first["loc"][0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return render("invalid-request", f"{where}: {first['msg']}{more}", {"errors": errors})


def _message(text: str) -> str:
    """What the schema says, in words that are about the request."""
    if "UploadFile" in text:
        return "send it as a file: as a part of the form with a file name, such as curl -F file=@NAME does"
    return text.removeprefix("Value error, ")[:_TEXT_SHOWN]


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    if isinstance(error, MalformedJsonError):
        kind, detail = "malformed-json", error.detail
    else:
        kind = _KIND_OF_STATUS.get(error.status_code, "malformed-request" if error.status_code < 500 else "internal")
        detail = f"{request.method} {request.url.path[:_TEXT_SHOWN]}: {error.detail}"
    headers = {"Allow": _methods_of(request)} if error.status_code == 405 else error.headers
    return render(kind, detail, {}, headers)


def _methods_of(request: Request) -> str:
    """All methods that the address takes. The router tells those of the first route alone, but each is a route.

    An address that the document writes out is not one of those with a parameter in its place.
    """
    own = request.app.openapi()["paths"].get(request.scope["path"])

    def taken(method: str) -> bool:
        asked = "GET" if method == "HEAD" else method
        if own is not None:
            return asked.lower() in own
        scope = {**request.scope, "method": asked}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return ", ".join(filter(taken, _METHODS))


def _redis_error(_: Request, error: Exception) -> Response:
    return render_redis_error(error)


def _storage_error(request: Request, error: Exception) -> Response:
    log.error("the storage failed in %s %s", request.method, request.url.path, exc_info=error)
    return render("unavailable", "the storage does not answer or is full", {})


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected error in %s %s", request.method, request.url.path, exc_info=error)
    return render("internal", "an unexpected error; it was logged", {})


def install(app: FastAPI) -> None:
    """Have the app render all its errors as problem documents."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(RedisError, _redis_error)
    app.add_exception_handler(OSError, _storage_error)
    app.add_exception_handler(Exception, _unexpected)


def responses(kinds: Sequence[str]) -> dict[int | str, dict[str, Any]]:
    """The documentation of errors for a route's ``responses``: an example of each kind, by status."""
    documented: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        problem = PROBLEMS[kind]
        content: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
        entry = documented.setdefault(problem.status, {"description": "", "content": {MEDIA_TYPE: content}})
        line = f"**{kind}**: {problem.title}. {problem.remedy}"
        entry["description"] = f"{entry['description']}\n\n{line}".strip()
        entry["content"][MEDIA_TYPE]["examples"][kind] = {
            "summary": problem.title,
            "value": {
                "type": f"/errors/{kind}",
                "title": problem.title,
                "status": problem.status,
                "detail": problem.title,
                "remedy": problem.remedy,
            },
        }
    return documented
