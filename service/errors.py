"""Errors that carry their HTTP status, and the list of all kinds of problem that a client can meet.

This module knows nothing of the web framework, so workers may use it; :mod:`service.problems` renders the errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A kind of error: its HTTP status, a short title and what the client should do about it."""

    status: int
    title: str
    remedy: str


PROBLEMS: dict[str, Problem] = {
    "malformed-json": Problem(400, "The body is not JSON", "Send a single valid JSON object, encoded as UTF-8."),
    "malformed-request": Problem(400, "The request could not be read", "Correct the request as the detail says."),
    "not-found": Problem(404, "There is nothing at this address", "See /docs for the addresses that exist."),
    "unknown-model": Problem(404, "There is no such model", "List the models with GET /v1/models."),
    "unknown-job": Problem(404, "There is no such job", "List the jobs with GET /v1/jobs."),
    "unknown-training": Problem(404, "There is no such training", "List the trainings with GET /v1/trainings."),
    "unknown-image": Problem(404, "There is no such image", "Take image urls from the record of the job or training."),
    "method-not-allowed": Problem(405, "This address does not take this method", "Use a method of the Allow header."),
    "body-too-large": Problem(413, "The body is too large", "Send a smaller body."),
    "unsupported-media-type": Problem(415, "The body is not declared as JSON", "Send Content-Type: application/json."),
    "invalid-request": Problem(422, "The request is not valid", "Correct the fields that `errors` names."),
    "unsupported-task": Problem(
        422, "The model can't do this task", "Choose a model whose card lists the task: GET /v1/models."
    ),
    "unavailable-model": Problem(
        422, "The model's files are damaged", "Choose another version or model, or have the files restored."
    ),
    "idempotency-conflict": Problem(
        422, "The Idempotency-Key was used for another body", "Use a new key for a new request."
    ),
    "unavailable": Problem(503, "The service can't answer now", "Try again after the seconds of Retry-After."),
    "internal": Problem(500, "The service failed", "Report it with the X-Request-ID of the response."),
}
"""Every kind of error, by the last part of its ``type``. Kinds are stable: clients may switch on them."""


class ServiceError(Exception):
    """An error for the client. Each subclass belongs to one family of kinds.

    Args:
        kind: a key of :data:`PROBLEMS`.
        detail: what is wrong with this request, in a sentence.
        extras: further members of the problem document, such as ``errors``; JSON values.
    """

    def __init__(self, kind: str, detail: str, **extras: Any) -> None:
        super().__init__(detail)
        self.kind = kind
        self.problem = PROBLEMS[kind]
        self.detail = detail
        self.extras = extras


class NotFoundError(ServiceError):
    """The thing that was asked for does not exist (404)."""


class UnprocessableError(ServiceError):
    """The request is well formed, but can't be done (422)."""


class IdempotencyError(UnprocessableError):
    """An Idempotency-Key came back with another body (422)."""

    def __init__(self, key: str) -> None:
        super().__init__("idempotency-conflict", f"the key {key!r} was sent before with another body")


class UnsupportedMediaTypeError(ServiceError):
    """The body's content type is not JSON (415)."""

    def __init__(self, content_type: str) -> None:
        found = f"the content type is {content_type[:100]!r}" if content_type else "the request has no content type"
        super().__init__("unsupported-media-type", f"{found}; send application/json")


class StaleAttemptError(Exception):
    """A worker wrote to a record that is no longer its own: finished, cancelled, or taken over by another attempt.

    The worker drops what it did; the record is unchanged. It never reaches a client.
    """


def invalid(field: str, message: str, *, kind: str = "invalid-request") -> UnprocessableError:
    """An error about one field of a request body, in the shape that the schema's own errors have."""
    error = {"loc": ["body", *field.split(".")], "msg": message, "type": kind}
    return UnprocessableError(kind, f"{field}: {message}", errors=[error])
