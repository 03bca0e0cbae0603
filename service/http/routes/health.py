"""Health, metrics, and the pages that explain errors."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from service.access.keys import Scope
from service.contract.errors import PROBLEMS, NotFoundError, ServiceError
from service.http.authentication import needs
from service.http.problems import responses
from service.http.routes.common import json_of
from service.services import Parts

router = APIRouter()


class Live(BaseModel):
    """The API process answers."""

    live: bool = Field(description="Always true.")


class Ready(BaseModel):
    """The service accepts jobs and can run them."""

    ready: bool = Field(description="Always true; an error is given otherwise.")
    workers: dict[str, int] = Field(description="Living workers by kind.", examples=[{"inference": 1, "training": 1}])


class ErrorKind(BaseModel):
    """What a kind of error means."""

    type: str = Field(description="The `type` of the error documents of this kind.")
    status: int = Field(description="Their HTTP status.")
    title: str = Field(description="What it means.")
    remedy: str = Field(description="What to do about it.")


class ErrorKinds(BaseModel):
    """All kinds of error."""

    items: list[ErrorKind] = Field(description="By status.")


@router.get("/v2/health/live", response_model=Live, tags=["health"])
async def live() -> Response:
    """Whether the API process answers at all."""
    return json_of(Live(live=True))


@router.get("/v2/health/ready", response_model=Ready, responses=responses(["unavailable"]), tags=["health"])
def ready(parts: Parts) -> Response:
    """Whether jobs can run: Redis answers, and at least one inference worker is ready; if none is, why not."""
    kinds: dict[str, int] = {}
    stuck: list[str] = []
    for info in parts.presence.workers().values():
        kind, state = str(info.get("kind")), info.get("state", "ready")
        if state == "stuck":
            stuck.append(kind)
        if state != "ready":  # it still loads models, hands its jobs back, or its device does not answer
            continue
        kinds[kind] = kinds.get(kind, 0) + 1
    if "inference" not in kinds:
        detail = "no inference worker is ready"
        if why := parts.presence.failure("inference"):
            detail += f"; one has ended: {why}"
        elif "inference" in stuck:
            detail += "; the device of one does not answer"
        raise ServiceError("unavailable", detail, missing=["inference worker"])
    return json_of(Ready(ready=True, workers=kinds))


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **responses(["unauthenticated", "forbidden", "unavailable"])},
    dependencies=[needs(Scope.ADMIN)],
    tags=["health"],
)
def metrics(parts: Parts) -> Response:
    """Metrics in the text format of Prometheus: requests, jobs by status, queues, and what workers report.

    Requests from the server's own machine need no key.
    """
    return Response(generate_latest(parts.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/errors", response_model=ErrorKinds, tags=["errors"])
async def list_errors() -> Response:
    """List all kinds of error."""
    return json_of(ErrorKinds(items=[_kind(kind) for kind in PROBLEMS]))


@router.get(
    "/errors/{kind}", response_model=ErrorKind, responses=responses(["not-found", "invalid-request"]), tags=["errors"]
)
async def get_error(
    kind: Annotated[
        str, Path(max_length=100, description="The last part of the `type`.", examples=["invalid-request"])
    ],
) -> Response:
    """Explain a kind of error."""
    if kind not in PROBLEMS:
        raise NotFoundError("not-found", f"there is no kind of error {kind!r}; GET /errors lists them")
    return json_of(_kind(kind))


def _kind(kind: str) -> ErrorKind:
    problem = PROBLEMS[kind]
    return ErrorKind(type=f"/errors/{kind}", status=problem.status, title=problem.title, remedy=problem.remedy)
