"""Errors that carry their HTTP status, and the list of all kinds of problem that a client can meet.

This module knows nothing of the web framework, so workers may use it; :mod:`service.http.problems` renders the errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
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
    "unauthenticated": Problem(
        401,
        "The request has no valid API key",
        "Send Authorization: Bearer KEY; the operator makes keys with coopserve keys add.",
    ),
    "forbidden": Problem(403, "Your API key does not allow this", "Use a key with the scope that the detail names."),
    "foreign-site": Problem(
        403,
        "The request names or comes from another site",
        "Call the server by an address of its machine, or name the site in COOPSERVE_ALLOWED_HOSTS or "
        "COOPSERVE_CORS_ORIGINS; a server that requires API keys takes requests from everywhere.",
    ),
    "not-found": Problem(404, "There is nothing at this address", "See /docs for the addresses that exist."),
    "unknown-model": Problem(404, "There is no such model", "List the models with GET /v1/models."),
    "unknown-job": Problem(404, "There is no such job", "List the jobs with GET /v1/jobs."),
    "unknown-training": Problem(404, "There is no such training", "List the trainings with GET /v1/trainings."),
    "unknown-image": Problem(
        404, "There is no such image", "Take addresses from the record, or upload the image with POST /v1/images."
    ),
    "unknown-dataset": Problem(404, "There is no such data set", "List the data sets with GET /v1/datasets."),
    "method-not-allowed": Problem(405, "This address does not take this method", "Use a method of the Allow header."),
    "request-timeout": Problem(408, "The body came too slowly", "Send it again, smaller or over a faster connection."),
    "name-taken": Problem(409, "The name is not yours", "Choose another name for the model."),
    "not-ended": Problem(409, "It has not ended yet", "Cancel it first, or wait for its end."),
    "dataset-exists": Problem(
        409, "There is a data set of this name", "Choose another name, or delete the data set that has it."
    ),
    "body-too-large": Problem(413, "The body is too large", "Send a smaller body."),
    "image-too-large": Problem(413, "The image is too large", "Send it with fewer pixels or stronger compression."),
    "mesh-too-large": Problem(413, "The mesh is too large", "Simplify the mesh, and send it with fewer triangles."),
    "dataset-too-large": Problem(
        413, "The data set is too large", "Send fewer or smaller pictures, or several data sets."
    ),
    "unsupported-media-type": Problem(415, "The body is not declared as JSON", "Send Content-Type: application/json."),
    "compressed-body": Problem(415, "The body is compressed", "Send it as it is, without Content-Encoding."),
    "invalid-request": Problem(422, "The request is not valid", "Correct the fields that `errors` names."),
    "invalid-image": Problem(
        422, "The image can't be used", "Send one whole, still picture as PNG, JPEG or WebP; save it anew if need be."
    ),
    "invalid-dataset": Problem(
        422,
        "The data set can't be used",
        "Correct what the detail names; send a zip of folders of pictures, or an npz archive with images.",
    ),
    "invalid-mesh": Problem(
        422, "The mesh can't be used", "Send one closed surface as OBJ, STL, or PLY as text, in a data URI."
    ),
    "unsupported-task": Problem(
        422, "The model can't do this task", "Choose a model whose card lists the task: GET /v1/models."
    ),
    "unavailable-model": Problem(
        422, "The model's files are damaged", "Choose another version or model, or have the files restored."
    ),
    "idempotency-conflict": Problem(
        422, "The Idempotency-Key was used for another body", "Use a new key for a new request."
    ),
    "queue-full": Problem(429, "The queue is full", "Try again after the seconds of Retry-After."),
    "too-many-jobs": Problem(
        429, "Too many of your jobs are unfinished", "Wait until one has finished, or cancel one; then try again."
    ),
    "too-many-streams": Problem(
        429, "Too many of your event streams are open", "Close one, or read the records instead."
    ),
    "over-budget": Problem(
        429,
        "Your unfinished jobs would cost too much",
        "Wait until one has finished, or ask for fewer images, steps or pixels.",
    ),
    "rate-limited": Problem(
        429, "You have sent too many requests", "Try again after the seconds of Retry-After; see RateLimit."
    ),
    "too-much-stored": Problem(
        429,
        "You have too much stored",
        "Delete uploads or data sets, or wait until finished jobs and uploads expire; then try again.",
    ),
    "storage-full": Problem(507, "The server has no room for it", "Try again later, or tell the operator."),
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

    headers: Mapping[str, str] = MappingProxyType({})
    """Header fields of the answer."""

    def __init__(self, kind: str, detail: str, **extras: Any) -> None:
        super().__init__(detail)
        self.kind = kind
        self.problem = PROBLEMS[kind]
        self.detail = detail
        self.extras = extras


class AccessError(ServiceError):
    """The request proves no API key, or one that is not enough.

    Args:
        kind: ``unauthenticated`` or ``forbidden``.
        detail: what is missing.
        challenge: attributes of the Bearer challenge (RFC 6750), such as ``scope="train"``.
    """

    def __init__(self, kind: str, detail: str, challenge: str = "") -> None:
        super().__init__(kind, detail)
        self.headers = {"WWW-Authenticate": ", ".join(filter(None, ('Bearer realm="coopserve"', challenge)))}


class RateError(ServiceError):
    """The caller sends too many requests (429).

    Args:
        detail: how many are allowed.
        headers: when the next one is.
    """

    def __init__(self, detail: str, headers: Mapping[str, str]) -> None:
        super().__init__("rate-limited", detail)
        self.headers = headers


class NotFoundError(ServiceError):
    """The thing that was asked for does not exist (404)."""


class UnprocessableError(ServiceError):
    """The request is well formed, but can't be done (422)."""


class PictureError(ServiceError):
    """A picture or mesh that a client sent can't be used (422), is too large (413) or is not there (404).

    Args:
        kind: ``invalid-image``, ``image-too-large``, ``unknown-image``, ``invalid-mesh`` or ``mesh-too-large``.
        field: the field of the request that holds the picture, such as ``image`` or ``images.0``.
        message: what is wrong with it.
    """

    def __init__(self, kind: str, field: str, message: str) -> None:
        super().__init__(kind, f"{field}: {message}", errors=[field_error(kind, field, message)])


class IdempotencyError(UnprocessableError):
    """An Idempotency-Key came back with another body (422)."""

    def __init__(self, key: str) -> None:
        super().__init__("idempotency-conflict", f"the key {key!r} was sent before with another body")


class ActiveError(ServiceError):
    """A record can't be deleted before its end (409)."""

    def __init__(self, id: str) -> None:
        super().__init__("not-ended", f"{id} has not ended; cancel it first, or wait for its end")


class TakenError(ServiceError):
    """A model can't be trained under a name that belongs to a shipped model or to somebody else (409)."""

    def __init__(self, name: str) -> None:
        message = f"{name!r} belongs to a shipped model or to somebody else; choose another name"
        super().__init__("name-taken", f"name: {message}", errors=[field_error("name-taken", "name", message)])


class TooManyError(ServiceError):
    """A limit on what waits or runs refuses the request for now (429).

    Args:
        kind: ``queue-full``, ``too-many-jobs``, ``over-budget`` or ``too-many-streams``.
        held: what is there already: records, or their cost in rows x steps x pixels.
    """

    def __init__(self, kind: str, held: int) -> None:
        details = {
            "queue-full": f"{held} requests are waiting already",
            "too-many-jobs": f"{held} of your jobs are queued or running already",
            "too-many-streams": f"{held} of your event streams are open already",
            "over-budget": f"your queued and running jobs already cost {held} of what you may use at a time",
        }
        super().__init__(kind, details[kind])


class StorageError(ServiceError):
    """There is no room for what a request would store: its owner has too much (429), or the server is full (507).

    Args:
        kind: ``too-much-stored`` or ``storage-full``.
        found: bytes that are stored already, or what else was found.
    """

    def __init__(self, kind: str, found: int | str) -> None:
        details = {
            "too-much-stored": f"your pictures and records already take {found} bytes",
            "storage-full": f"{found} bytes are stored already, and there is no room for more",
        }
        super().__init__(kind, found if isinstance(found, str) else details[kind])


class PicturesGoneError(ServiceError):
    """A request reached the queue so late that its pictures had been given up (503)."""

    def __init__(self) -> None:
        super().__init__("unavailable", "the request took too long to be stored; send it again")


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
    return UnprocessableError(kind, f"{field}: {message}", errors=[field_error(kind, field, message)])


def field_error(kind: str, field: str, message: str) -> dict[str, Any]:
    """An entry of ``errors``, in the shape that the schema's own errors have."""
    return {"loc": ["body", *field.split(".")], "msg": message, "type": kind}
