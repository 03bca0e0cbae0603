"""The models that can be served, with their cards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from service.contract.cards import ModelCard
from service.contract.catalog import Model
from service.http.authentication import Who
from service.http.problems import responses
from service.http.routes import links
from service.http.routes.common import json_of
from service.services import Parts, Services

router = APIRouter(tags=["models"])
managing = APIRouter(tags=["models"])

_ERRORS = responses(["unknown-model", "unavailable-model", "invalid-request", "unavailable"])

Reference = Annotated[
    str,
    Path(
        max_length=100,
        description="Name of the model, or name@version; without a version, the newest.",
        examples=["fashion-ccoopnets"],
    ),
]


class Resident(BaseModel):
    """A worker that has a model in memory."""

    worker: str = Field(description="The worker.")
    bytes: int = Field(description="Memory of the model's parameters.")


class ModelEntry(BaseModel):
    """One version of a model: its card, or why it can't be served."""

    model_config = ConfigDict(frozen=True)

    ref: str = Field(description="name@version; names this model for good.", examples=["fashion-ccoopnets@1"])
    available: bool = Field(description="False if its files are damaged.")
    reason: str | None = Field(description="What is damaged; null if it is available.")
    pinned: bool = Field(description="True if workers keep it in memory on request.")
    resident: list[Resident] = Field(description="The workers that have it in memory now.")
    card: ModelCard | None = Field(description="What it is and what it can do; null if it is not available.")


class ModelList(BaseModel):
    """All models and versions."""

    items: list[ModelEntry] = Field(description="By name, newest version first.")


@router.get(
    "/v1/models",
    response_model=ModelList,
    responses={200: {"links": links.MODELS}, **responses(["unavailable"])},
)
def list_models(parts: Parts, who: Who) -> Response:
    """List all models and versions, including damaged ones, and the workers that have them in memory.

    A model that was trained with a key is shown to the key's owner alone.
    """
    return json_of(ModelList(items=_entries(parts, parts.catalog.list(who.sees_model))))


@router.get(
    "/v1/models/{name}",
    response_model=ModelCard,
    responses=responses(["unknown-model", "unavailable-model", "invalid-request"]),
)
def get_model(parts: Parts, who: Who, name: Reference) -> Response:
    """Get the card of a model: what it can do, its defaults and limits, how it was trained and what was measured."""
    return json_of(parts.catalog.get(name, who.sees_model))


@managing.post("/v1/models/{name}/load", response_model=ModelEntry, status_code=202, responses=_ERRORS)
def load_model(parts: Parts, name: Reference) -> Response:
    """Have every worker load a version of a model and keep it in memory.

    Workers load it in the background, and so do workers that start later; `resident` in the list shows which have it.
    Without a version, the newest version of this moment is meant; later ones are not loaded.
    """
    ref = parts.catalog.get(name).ref
    parts.control.load(ref)
    return json_of(_entry(parts, ref), 202)


@managing.post("/v1/models/{name}/unload", response_model=ModelEntry, status_code=202, responses=_ERRORS)
def unload_model(parts: Parts, name: Reference) -> Response:
    """Have every worker drop a version of a model from memory, as soon as no job uses it.

    It can still be used: the next job loads it again.
    """
    ref = parts.catalog.get(name).ref
    parts.control.unload(ref)
    return json_of(_entry(parts, ref), 202)


def _entry(parts: Services, ref: str) -> ModelEntry:
    (entry,) = _entries(parts, (model for model in parts.catalog.list() if model.ref == ref))
    return entry


def _entries(parts: Services, models: Iterable[Model]) -> list[ModelEntry]:
    workers, pinned = parts.presence.workers(), parts.control.pinned()
    return [
        ModelEntry(
            ref=model.ref,
            available=model.card is not None,
            reason=model.reason,
            pinned=model.ref in pinned,
            resident=[
                Resident(worker=worker, bytes=info["models"][model.ref])
                for worker, info in workers.items()
                if model.ref in info.get("models", {})
            ],
            card=model.card,
        )
        for model in models
    ]
