"""What the server sends to addresses that clients name, for the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response

from service.contract.jobs import JobRecord
from service.contract.trainings import TrainingRecord

_SIGNED = "The signature by the Standard Webhooks scheme (https://www.standardwebhooks.com)."
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Taken; any other 2xx will do."},
    410: {"description": "Not wanted: it is not sent again."},
    "default": {"description": "Anything else: it is sent again later."},
}

Id = Annotated[str, Header(alias="webhook-id", description="The id of the record: drop what comes twice.")]
Timestamp = Annotated[str, Header(alias="webhook-timestamp", description="Seconds since 1970 when it was sent.")]
Signature = Annotated[str, Header(alias="webhook-signature", description=_SIGNED)]


def describe(webhooks: APIRouter) -> None:
    """Add them to the webhooks of an app. Nobody calls these routes."""
    for kind, record in (("job", JobRecord), ("training", TrainingRecord)):
        # The schema of answers is named, for that of a body would be another one.
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{record.__name__}"}}}
        webhooks.add_api_route(
            kind,
            _ended,
            methods=["POST"],
            operation_id=f"{kind}_webhook",
            summary=f"A {kind} with `webhook` has ended",
            description="Sent to the address that the request named. The body is the record.",
            tags=[f"{kind}s"],
            responses=_ANSWERS,
            response_class=Response,
            openapi_extra={"requestBody": {"required": True, "content": content}},
        )


def _ended(id: Id, timestamp: Timestamp, signature: Signature) -> None:
    """What a receiver gets."""
