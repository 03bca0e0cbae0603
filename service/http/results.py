"""The images of a job that has succeeded, as the answer itself: one picture, a contact sheet of many, or an archive."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

from fastapi import Request, Response
from PIL import Image

from pictures.encoding import MEDIA_TYPES, Format, encoded
from pictures.png import picture_of, png_of
from service.contract.errors import NotFoundError
from service.contract.jobs import JobRecord, recipe_text
from service.contract.records import Status
from service.http.negotiation import Form
from service.http.routes.common import answer_with
from service.pictures.places import job_extra, job_image, job_surface
from service.pictures.sheets import contact_sheet, write_archive
from service.services import Services

_MOST_PIXELS = 64_000_000
"""Of a contact sheet; more are for an archive."""


def results(parts: Services, request: Request, record: JobRecord, form: Form) -> Response:
    """What a job has made.

    Raises:
        NotFoundError: it has made no images, or not yet; or they are too many for one sheet.
    """
    files = _files(parts, record)
    if not files:
        state = record.status.value
        raise NotFoundError("unknown-image", f"{record.id} is {state} and has no images; ask for application/json")
    if form == "zip":
        return answer_with(request, _archive(parts, record, files), "application/zip", name=f"{record.id}.zip")
    assert form != "json"
    name = f"{record.id}.{form}"
    if len(files) == 1:
        (png,) = files.values()
        data = png if form == "png" else encoded(picture_of(png), form)
    else:
        data = _sheet(record, files, form)
    return answer_with(request, data, MEDIA_TYPES[form], name=name)


def _files(parts: Services, record: JobRecord) -> dict[int, bytes]:
    """The PNG files of its images, by their places."""
    if record.status is not Status.SUCCEEDED:
        return {}
    made = [k for k, output in enumerate(record.outputs) if output.url is not None]
    return {k: parts.blobs.get(job_image(record.id, k).key) for k in made}


def _sheet(record: JobRecord, files: dict[int, bytes], format: Format) -> bytes:
    sizes = [(output.width or 0) * (output.height or 0) for output in record.outputs]
    if sum(sizes) > _MOST_PIXELS:
        raise NotFoundError("unknown-image", f"{record.id} has too many pixels for one sheet; ask for application/zip")
    sheet = contact_sheet([_plain(picture_of(png)) for png in files.values()])
    texts = recipe_text(record.request(), record.seed, record.params["n"])
    return png_of(sheet, texts) if format == "png" else encoded(sheet, format)


def _plain(picture: Image.Image) -> Image.Image:
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


def _archive(parts: Services, record: JobRecord, files: dict[int, bytes]) -> bytes:
    format: Format = record.params.get("output_format", "png")
    entries = {"job.json": record.model_dump_json(indent=1).encode()}
    digits = max(1, math.ceil(math.log10(len(files) + 1)))
    for k, png in files.items():
        entries[f"{k:0{digits}}.{format}"] = png if format == "png" else encoded(picture_of(png), format)
        for name, value in _beside(parts, record, k):
            entries[f"{k:0{digits}}-{name}"] = value
    file = io.BytesIO()
    write_archive(file, entries)
    return file.getvalue()


def _beside(parts: Services, record: JobRecord, k: int) -> Iterator[tuple[str, bytes]]:
    """What else was made of an output, pictures and surfaces, by the names of their files."""
    for name, value in record.outputs[k].extras.items():
        for place, ending in ((job_extra(record.id, k, name), "png"), (job_surface(record.id, k), "obj")):
            if value == place.url:
                yield f"{name}.{ending}", parts.blobs.get(place.key)
