"""Uploaded images, which tasks then take by their id."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Path, Request, Response, UploadFile
from pydantic import BaseModel, Field

from pictures.png import size_of
from service.http.authentication import Who
from service.http.problems import responses
from service.http.routes import links
from service.http.routes.common import json_of, picture, png_answer
from service.pictures.places import shelf_key, upload_url
from service.pictures.samples import SAMPLES, Sample
from service.pictures.uploads import Upload, unknown
from service.services import Parts

router = APIRouter(tags=["images"])

ImageId = Annotated[
    str,
    Path(description="Id of the image.", max_length=100, examples=["img_0190f0e1a2b37c4d8e5f60718293a4b5"]),
]


@router.post(
    "/v1/images",
    response_model=Upload,
    status_code=201,
    responses={
        201: {
            "description": "The image was stored.",
            "headers": {"Location": {"description": "The image.", "schema": {"type": "string"}}},
            "links": links.IMAGE,
        },
        **responses(
            [
                "malformed-request",
                "compressed-body",
                "request-timeout",
                "body-too-large",
                "image-too-large",
                "invalid-image",
                "invalid-request",
                "too-much-stored",
                "storage-full",
                "unavailable",
            ]
        ),
    },
)
async def upload_image(
    parts: Parts,
    who: Who,
    file: Annotated[UploadFile, File(description="A PNG, JPEG or WebP file with one still picture.")],
) -> Response:
    """Upload an image, and use its id in any task that takes pictures.

    Any kind of PNG, JPEG or WebP is accepted, whatever the name of the file. It is turned upright by its EXIF data and
    stored as PNG with 8 bits a channel in sRGB, without metadata. Transparency is kept: it can be the mask of
    `inpaint`; all other tasks put the image on a white background. The image is deleted at `expires_at`; jobs keep
    their own copy.
    """
    parts.room.check(file.size or 0)
    upload = await parts.intake.upload(await file.read(), who)
    return json_of(upload, 201, {"Location": upload.url})


class SampleEntry(BaseModel):
    """A picture that every server has. Use its `id` wherever a task asks for a picture."""

    id: str = Field(description="Identifier of the image.", examples=["sample-shirt"])
    title: str = Field(description="What it shows.")
    url: str = Field(description="Address of the image, as PNG.")
    width: int = Field(description="Width in pixels.")
    height: int = Field(description="Height in pixels.")


class SampleList(BaseModel):
    """All sample pictures."""

    items: list[SampleEntry] = Field(description="In no particular order.")


@router.get("/v1/images", response_model=SampleList)
def list_samples() -> Response:
    """List the sample pictures that every server has, to try tasks with. Uploads are not listed."""
    return json_of(SampleList(items=[_entry(id, sample) for id, sample in SAMPLES.items()]))


def _entry(id: str, sample: Sample) -> SampleEntry:
    width, height = size_of(sample.png)
    return SampleEntry(id=id, title=sample.title, url=upload_url(id), width=width, height=height)


@router.get(
    "/v1/images/{id}",
    response_class=Response,
    responses={
        200: {"content": {"image/png": {}}, "description": "The image."},
        304: {"description": "Your copy is current."},
        **responses(["unknown-image", "invalid-request", "unavailable"]),
    },
)
def get_image(parts: Parts, who: Who, request: Request, id: ImageId) -> Response:
    """Get an uploaded image, or a sample picture, as PNG."""
    if id in SAMPLES:
        return png_answer(request, SAMPLES[id].png)
    answer = picture(parts, request, shelf_key(parts.uploads.find(id, who.listing).name))
    if answer is None:
        raise unknown(id)
    return answer


@router.delete(
    "/v1/images/{id}",
    status_code=204,
    responses={
        204: {"description": "The image is deleted."},
        **responses(["unknown-image", "invalid-request", "unavailable"]),
    },
)
def delete_image(parts: Parts, who: Who, id: ImageId) -> Response:
    """Delete an uploaded image. Jobs that use it keep their own copy."""
    parts.uploads.delete(id, who.listing)
    return Response(status_code=204)
