"""What can go wrong, by type: what the server refuses, jobs that fail, and servers that don't answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """The root of all errors of this client."""


class ApiError(ClientError):
    """The server has refused a request.

    Attributes:
        kind: the stable short name of the problem, the last part of its ``type``: ``unknown-model``.
        status: of the answer.
        detail: what is wrong with this request.
        remedy: what to do about it.
        errors: the fields that are wrong, where fields are wrong: ``loc``, ``msg`` and ``type`` of each.
        request_id: what the server's logs call the request.
        retry_after: seconds after which the same request may succeed; None where none were named.
    """

    def __init__(self, status: int, document: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self.status = status
        self.kind = str(document.get("type", "")).rpartition("/")[2] or "unknown"
        self.detail = str(document.get("detail") or f"the server answered {status}")
        self.remedy = str(document.get("remedy") or "")
        self.errors: list[dict[str, Any]] = list(document.get("errors") or [])
        self.request_id = headers.get("x-request-id")
        self.retry_after = seconds_of(headers.get("retry-after"))
        super().__init__(" ".join(filter(None, (f"{self.kind}: {self.detail}.", self.remedy))))


class AuthenticationError(ApiError):
    """The request has no valid key."""


class ForbiddenError(ApiError):
    """The key does not allow this."""


class NotFoundError(ApiError):
    """There is no such model, job, training, picture or data set."""


class ConflictError(ApiError):
    """A name is taken, or an Idempotency-Key was used for another request."""


class TooLargeError(ApiError):
    """The body, a picture or a data set is too large."""


class InvalidRequestError(ApiError):
    """The request is wrong; ``errors`` names its fields."""


class UnsupportedTaskError(InvalidRequestError):
    """The model can't do the task, or its files are damaged."""


class InvalidPictureError(InvalidRequestError):
    """A picture can't be used."""


class LimitError(ApiError):
    """Too much for now: of requests, of unfinished jobs or of stored pictures."""


class UnavailableError(ApiError):
    """The server can't answer now."""


class ServerError(ApiError):
    """The server has failed."""


class RedirectedError(ClientError):
    """The address leads elsewhere; keys are not sent there, so give the client the address that is meant."""


class UnreachableError(ClientError):
    """The server did not answer."""


class WaitTimeoutError(ClientError, TimeoutError):
    """The job had not ended in time. It goes on."""


class JobError(ClientError):
    """A job or training has ended without a result.

    Attributes:
        record: as it is at its end.
    """

    def __init__(self, record: Mapping[str, Any], reason: str) -> None:
        super().__init__(f"{record['id']} {reason}")
        self.record = dict(record)


class JobFailedError(JobError):
    """It has failed; ``kind`` is the stable short name of the reason, such as ``diverged``."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        error = record.get("error") or {}
        self.kind, self.detail = str(error.get("kind", "internal")), str(error.get("detail", ""))
        super().__init__(record, f"failed, {self.kind}: {self.detail}")


class JobCancelledError(JobError):
    """It was cancelled."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        super().__init__(record, "was cancelled")


_OF_KIND: dict[str, type[ApiError]] = {
    "unsupported-task": UnsupportedTaskError,
    "unavailable-model": UnsupportedTaskError,
    "invalid-image": InvalidPictureError,
    "idempotency-conflict": ConflictError,
}
_OF_STATUS: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    429: LimitError,
    500: ServerError,
}


def error_of(status: int, document: Any, headers: Mapping[str, str]) -> ApiError:
    """The error for an answer; a kind that this client does not know is told by its status."""
    known = document if isinstance(document, dict) else {}
    kind = str(known.get("type", "")).rpartition("/")[2]
    other = InvalidRequestError if status < 500 else UnavailableError
    return (_OF_KIND.get(kind) or _OF_STATUS.get(status) or other)(status, known, headers)


def seconds_of(text: str | None) -> float | None:
    """The seconds of a Retry-After field; None for a date or nothing."""
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
