"""The models that can be asked for, with their cards."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from service.catalog import ModelCard
from service.problems import responses
from service.routes.common import json_of
from service.services import Parts

router = APIRouter(tags=["models"])


class ModelEntry(BaseModel):
    """One version of a model: its card, or why it can't be served."""

    model_config = ConfigDict(frozen=True)

    ref: str = Field(description="name@version; names this model for good.", examples=["fashion-ccoopnets@1"])
    available: bool = Field(description="False if its files are damaged.")
    reason: str | None = Field(description="What is damaged; null if it is available.")
    card: ModelCard | None = Field(description="What it is and what it can do; null if it is not available.")


class ModelList(BaseModel):
    """All models and versions."""

    items: list[ModelEntry] = Field(description="By name, newest version first.")


@router.get("/v1/models", response_model=ModelList)
def list_models(parts: Parts) -> Response:
    """List all models and versions, the damaged ones too."""
    items = [
        ModelEntry(ref=model.ref, available=model.card is not None, reason=model.reason, card=model.card)
        for model in parts.catalog.list()
    ]
    return json_of(ModelList(items=items))


@router.get(
    "/v1/models/{name}",
    response_model=ModelCard,
    responses=responses(["unknown-model", "unavailable-model", "invalid-request"]),
)
def get_model(
    parts: Parts,
    name: Annotated[
        str,
        Path(
            max_length=100,
            description="Name of the model, or name@version; without a version, the newest.",
            examples=["fashion-ccoopnets"],
        ),
    ],
) -> Response:
    """Get the card of a model: what it can do, its defaults and limits, how it was trained and what was measured."""
    return json_of(parts.catalog.get(name))
