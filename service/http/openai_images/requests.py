"""Bodies of OpenAI's images API, and the jobs that they ask for."""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, final

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.contract.cards import ModelCard
from service.contract.errors import invalid
from service.contract.jobs import TASKS, JobRequest
from service.http.openai_images.prompts import label_of

_SIZE = r"^(auto|[1-9]\d{0,3}x[1-9]\d{0,3})$"
_WITHOUT_EFFECT = "Accepted for the sake of clients; it has no effect."
Ignored = Annotated[str | None, Field(max_length=1000, description=_WITHOUT_EFFECT)]


class ImagesBody(BaseModel, ABC):
    """What both requests share. Fields of coopserve's own tasks, such as `seed`, `steps` or `options`, may be added."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, frozen=True)

    model: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Name of the model, or name@version. Absent: the first one, by name, that can do what is asked.",
        examples=["fashion-ccoopnets"],
    )
    prompt: str | None = Field(
        None,
        max_length=32_000,
        description="Names a class of the model, or several as a mix (`3 coat + 1 bag`), in a text of any length. "
        "Without a word the seed chooses. Models without classes do not look at it.",
        examples=["a sneaker"],
    )
    n: int | None = Field(None, ge=1, le=4096, description="Number of images.", examples=[1])
    size: str | None = Field(
        None,
        pattern=_SIZE,
        description="WIDTHxHEIGHT of the answer, in the proportions of the model's images, which are scaled to it; "
        "`auto` or absent: as the model makes them.",
        examples=["auto"],
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None,
        description="The images themselves (the default), or addresses of them in the model's size, good for an hour.",
    )
    output_format: Literal["png", "jpeg", "webp"] | None = Field(None, description="Format of the images; absent: PNG.")
    output_compression: int | None = Field(
        None,
        ge=0,
        le=100,
        description="Quality of JPEG and WebP, 100 = the best. Absent: WebP keeps every pixel, JPEG nearly so.",
    )
    stream: bool | None = Field(None, description="True: answer with server-sent events.")
    partial_images: int | None = Field(
        None, ge=0, le=3, description="Of a stream: how many unfinished states of each image to send, at most."
    )
    background: Literal["auto", "opaque"] | None = Field(None, description="No model makes transparent images.")
    quality: Ignored = None
    style: Ignored = None
    moderation: Ignored = None
    user: Ignored = None
    safety_identifier: Ignored = None
    input_fidelity: Ignored = None

    def scaled_to(self, card: ModelCard) -> tuple[int, int] | None:
        """Width and height of the answer's images; None: as the model makes them.

        Raises:
            UnprocessableError: its proportions are not the model's.
        """
        if self.size in (None, "auto"):
            return None
        width, height = map(int, re.findall(r"\d+", self.size or ""))
        own = card.image
        if width * own.height != height * own.width:
            raise invalid(
                "size", f"{card.ref} makes {own.width}x{own.height} pixels; ask for auto or those proportions"
            )
        return (width, height) if (width, height) != (own.width, own.height) else None

    def job(self, task: str, card: ModelCard, **given: Any) -> JobRequest:
        """The job that it asks for.

        Args:
            task: which task.
            card: of the model.
            given: fields of the task that are known already.

        Raises:
            UnprocessableError: the prompt names no class of a model that needs one.
            RequestValidationError: a further field is none of the task's.
        """
        kind = TASKS[task]
        further = {name: value for name, value in (self.model_extra or {}).items() if value is not None}
        label = self._label(kind, card) if "label" not in further else None
        own = {"model": card.ref, "n": self.n, "output_format": self.output_format}
        fields = {**own, "label": label, **given, **further}
        try:
            return kind.model_validate({name: value for name, value in fields.items() if value is not None})
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False, include_context=False)
            raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from None

    def _label(self, kind: type[JobRequest], card: ModelCard) -> dict[str, float] | None:
        """What the prompt names, for the tasks whose label is what is made and not what was sent."""
        if kind.task not in ("generate", "translate") or card.classes is None:
            return None
        return label_of(self.prompt or "", card.classes, card.ref)


@final
class GenerationBody(ImagesBody):
    """A request for new images."""

    example: ClassVar[dict[str, Any]] = {"model": "fashion-ccoopnets", "prompt": "a sneaker", "n": 2, "seed": 7}


class PictureReference(BaseModel):
    """A picture of a request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_url: str | None = Field(None, min_length=1, description="The picture as a data URI.")
    file_id: str | None = Field(None, min_length=1, description="The id of a picture of `POST /v1/images`.")


Reference = PictureReference | Annotated[str, Field(min_length=1)]


@final
class EditBody(ImagesBody):
    """A request for images made from an image."""

    images: Annotated[list[Reference], Field(min_length=1, max_length=16)] | None = Field(
        None, description="The picture, in a list of one; also as `image`."
    )
    image: Reference | Annotated[list[Reference], Field(min_length=1, max_length=16)] | None = Field(
        None, description="The picture; also as `images`."
    )
    mask: Reference | None = Field(
        None,
        description="A picture of the same size: transparent = fill in. One without transparency: white = fill in.",
    )
    task: str | None = Field(
        None,
        max_length=100,
        description="Which task makes it. Absent: `inpaint` with a mask or a transparent picture, else `translate`, "
        "as far as the model can do both.",
        examples=["translate"],
    )

    def picture(self) -> str:
        """The one picture: a data URI or an id.

        Raises:
            UnprocessableError: there is none, or there are several.
        """
        given = self.images or self.image or []
        pictures = given if isinstance(given, list) else [given]
        if len(pictures) != 1:
            raise invalid("image", f"send one picture, not {len(pictures)}")
        return _ref("image", pictures[0])

    def mask_ref(self) -> str | None:
        """The mask, if there is one."""
        return None if self.mask is None else _ref("mask", self.mask)


def _ref(field: str, reference: PictureReference | str) -> str:
    given = [reference] if isinstance(reference, str) else [reference.image_url, reference.file_id]
    known = [text for text in given if text is not None]
    if len(known) != 1:
        raise invalid(field, "send either image_url or file_id")
    if known[0].lower().startswith(("http://", "https://")):
        raise invalid(field, "pictures are not fetched from other sites: send a data URI, or upload the file")
    return known[0]


def edit_of(content: Mapping[str, Any]) -> EditBody:
    """The body of an edit.

    Raises:
        RequestValidationError: it is not valid.
    """
    try:
        return EditBody.model_validate(content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found]) from None
