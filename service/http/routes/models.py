"""The models that can be served, with their cards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.contract import model_folders
from service.contract.cards import ImageShape, ModelCard
from service.contract.catalog import PICTURE, Model
from service.contract.errors import NotFoundError
from service.http.authentication import Who
from service.http.problems import responses
from service.http.routes import links
from service.http.routes.common import CHANGING, json_of, png_answer
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

View = Annotated[
    Literal["full", "summary"],
    Query(description="Whole cards, or a few words about each model: a hundredth of the size."),
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


class ModelSummary(BaseModel):
    """What one version of a model is, in short."""

    ref: str = Field(description="name@version; names this model for good.", examples=["fashion-ccoopnets@1"])
    available: bool = Field(description="False if its files are damaged.")
    reason: str | None = Field(description="What is damaged; null if it is available.")
    title: str | None = Field(description="The model in a few words.")
    system: str | None = Field(description="The method that the model belongs to.")
    image: ImageShape | None = Field(description="Shape of the images.")
    classes: int = Field(description="How many classes it has; 0 for a model without classes.")
    tasks: list[str] = Field(description="What it can do.")
    picture: str | None = Field(description="Address of a picture that shows what it makes; null if it has none.")


class ModelSummaries(BaseModel):
    """All models and versions, in short."""

    items: list[ModelSummary] = Field(description="By name, newest version first.")


class OpenAiModel(BaseModel):
    """A model, as the OpenAI API lists them."""

    id: str = Field(description="Its name.")
    object: Literal["model"] = Field("model", description="Always `model`.")
    created: int = Field(description="When its files came, in seconds since 1970.")
    owned_by: str = Field(description="Its owner; `coopserve`: everybody's.")


class ModelList(BaseModel):
    """All models and versions."""

    items: list[ModelEntry] = Field(description="By name, newest version first.")
    object: Literal["list"] = Field("list", description="Always `list`.")
    data: list[OpenAiModel] = Field(description="The names of whole models, as the OpenAI API lists them.")


class ShownCard(ModelCard):
    """The card of a model, with what the OpenAI API tells of one."""

    id: str = Field(description="name@version.")
    object: Literal["model"] = Field("model", description="Always `model`.")
    created: int = Field(description="When its files came, in seconds since 1970.")
    owned_by: str = Field(description="Its owner; `coopserve`: everybody's.")


@router.get(
    "/v1/models",
    response_model=ModelList | ModelSummaries,
    responses={200: {"links": links.MODELS}, **responses(["invalid-request", "unavailable"])},
)
def list_models(parts: Parts, who: Who, view: View = "full") -> Response:
    """List all models and versions, including damaged ones, and the workers that have them in memory.

    A model that was trained with a key is shown to the key's owner alone.
    """
    models = parts.catalog.list(who.sees_model)
    if view == "summary":
        return json_of(ModelSummaries(items=list(map(_summary, models))))
    newest = {model.name: model for model in reversed(models) if model.card is not None}
    data = [_listed(newest[name]) for name in sorted(newest)]
    return json_of(ModelList(items=_entries(parts, models), data=data))


@router.get(
    "/v1/models/{name}/picture",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "The picture."},
        304: {"description": "Your copy is current."},
        **responses(["unknown-model", "unknown-image", "unavailable-model", "invalid-request"]),
    },
)
def get_model_picture(parts: Parts, who: Who, request: Request, name: Reference) -> Response:
    """Get a picture that shows what a model makes, as PNG."""
    card = parts.catalog.get(name, who.sees_model)
    try:
        return png_answer(request, (parts.catalog.folder(card.ref) / PICTURE).read_bytes(), CHANGING)
    except OSError:
        raise NotFoundError("unknown-image", f"{card.ref} has no picture") from None


@router.get(
    "/v1/models/{name}",
    response_model=ShownCard,
    responses=responses(["unknown-model", "unavailable-model", "invalid-request"]),
)
def get_model(parts: Parts, who: Who, name: Reference) -> Response:
    """Get the card of a model: what it can do, its defaults and limits, how it was trained and what was measured."""
    card = parts.catalog.get(name, who.sees_model)
    (model,) = (model for model in parts.catalog.list() if model.ref == card.ref)
    return json_of(ShownCard.model_validate({**card.model_dump(), **_listed(model).model_dump(), "id": card.ref}))


def _listed(model: Model) -> OpenAiModel:
    created = model_folders.changed_at(str(model.folder / "card.json")) // 10**9
    return OpenAiModel(id=model.name, created=created, owned_by=model.owner or "coopserve")


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


def _summary(model: Model) -> ModelSummary:
    card = model.card
    return ModelSummary(
        ref=model.ref,
        available=card is not None,
        reason=model.reason,
        title=card and card.title,
        system=card and card.system,
        image=card and card.image,
        classes=len((card and card.classes) or ()),
        tasks=list(card.tasks) if card else [],
        picture=f"/v1/models/{model.ref}/picture" if (model.folder / PICTURE).is_file() else None,
    )


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
