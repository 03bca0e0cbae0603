"""Data sets to train on: uploaded, listed, deleted."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import APIRouter, File, Form, Path, Query, Response, UploadFile
from pydantic import BaseModel, Field

from service.access.keys import OWNER
from service.access.security import Caller
from service.contract.data_places import DataName, check_data_name
from service.contract.errors import invalid
from service.datasets.contents import DataSet
from service.http.authentication import Who
from service.http.problems import responses
from service.http.routes import links
from service.http.routes.common import json_of
from service.services import Parts

router = APIRouter(tags=["trainings"])

_AT_A_TIME = anyio.CapacityLimiter(2)
_NAME = Path(description="Name of the data set.", examples=["my photos"])
Whose = Annotated[
    str | None,
    Query(pattern=OWNER, description="Whose upload it is, for keys with the scope `admin`; absent: the caller's own."),
]


class DataSetList(BaseModel):
    """Data sets that models can be trained on."""

    items: list[DataSet] = Field(
        description="Those that can be fetched, those of the server, and your own uploads; with the scope `admin`, "
        "everybody's."
    )


@router.post(
    "/v1/datasets",
    response_model=DataSet,
    status_code=201,
    responses={
        201: {
            "description": "The data set was stored.",
            "headers": {"Location": {"description": "The data set.", "schema": {"type": "string"}}},
            "links": links.DATASET,
        },
        **responses(
            [
                "malformed-request",
                "compressed-body",
                "request-timeout",
                "dataset-exists",
                "body-too-large",
                "dataset-too-large",
                "invalid-request",
                "invalid-dataset",
                "too-much-stored",
                "storage-full",
                "unavailable",
            ]
        ),
    },
)
async def upload_dataset(
    parts: Parts,
    who: Who,
    file: Annotated[UploadFile, File(description="A zip file of folders of pictures, or an npz archive.")],
    name: Annotated[
        DataName | None,
        Form(description="Its name, spaces and accents too; absent: that of the file, without its ending."),
    ] = None,
) -> Response:
    """Upload a data set, and train on it by its name.

    A zip file holds class folders, `train` and `test` with class folders, `A` and `B` for pairs, `trainA` and `trainB`
    for two domains, or pictures alone: PNG, JPEG and WebP. An npz archive holds `images` and `labels` or `conditions`.
    The answer tells what was found, the number of images in each class, and what is left out.
    """
    chosen = name or _name_of(file)

    def add() -> DataSet:
        return parts.datasets.add(file.file, chosen, who.owner)

    found = await anyio.to_thread.run_sync(add, limiter=_AT_A_TIME)
    return json_of(found, 201, {"Location": found.url})


@router.get("/v1/datasets", response_model=DataSetList, responses=responses(["unavailable"]))
def list_datasets(parts: Parts, who: Who) -> Response:
    """List the data sets that you can train on, with what each holds."""
    return json_of(DataSetList(items=parts.datasets.list(who.owner, everybody=who.sees_all)))


@router.get(
    "/v1/datasets/{name}",
    response_model=DataSet,
    responses={200: {"links": links.DATASET}, **responses(["unknown-dataset", "invalid-request", "unavailable"])},
)
def get_dataset(parts: Parts, who: Who, name: Annotated[str, _NAME], owner: Whose = None) -> Response:
    """Get what a data set holds: kind, sizes, and the number of images in each class."""
    return json_of(parts.datasets.get(name, _owner(who, owner)))


@router.delete(
    "/v1/datasets/{name}",
    status_code=204,
    responses={
        204: {"description": "The data set is deleted."},
        **responses(["unknown-dataset", "invalid-request", "unavailable"]),
    },
)
def delete_dataset(parts: Parts, who: Who, name: Annotated[str, _NAME], owner: Whose = None) -> Response:
    """Delete a data set that you have uploaded. Models that were trained on it stay; queued trainings on it fail."""
    parts.datasets.delete(name, _owner(who, owner))
    return Response(status_code=204)


def _owner(who: Caller, owner: str | None) -> str | None:
    """Whose uploads are meant: only those who see all may name another."""
    return owner if owner is not None and who.sees_all else who.owner


def _name_of(file: UploadFile) -> str:
    """The name of an uploaded file without its ending, if a data set can have it."""
    stem = PurePath((file.filename or "").replace("\\", "/")).stem
    try:
        return check_data_name(stem)
    except ValueError as error:
        raise invalid("name", str(error)) from None
