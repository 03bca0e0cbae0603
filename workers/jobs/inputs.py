"""A resolved request as a model's tasks take it: its pictures read, fitted to the model, and made into tensors."""

from __future__ import annotations

import io
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from models.data.images import to_float
from service.contract.catalog import ImageShape, ModelCard
from service.contract.errors import NotFoundError
from service.contract.jobs import JobRequest, Role
from service.pictures.blobs import Blobs
from service.pictures.places import job_input
from workers.jobs.framing import Fit, Frame, on_white, size_of

_HIDDEN_FROM = 128


@dataclass(frozen=True)
class Restoration:
    """How results are brought back to the size of the picture that was sent.

    Args:
        frame: where the model's picture lies in it.
        base: the picture, with its transparency laid on white.
        hidden: the pixels that a result may change, 0 or 255; None: all that the model saw.
    """

    frame: Frame
    base: Image.Image
    hidden: Image.Image | None

    def __call__(self, result: Image.Image) -> Image.Image:
        """The result at that size."""
        return self.frame.undo(result, self.base, self.hidden)


@dataclass(frozen=True)
class Prepared:
    """What a task and its results need.

    Args:
        job: every field of the request. Pictures are float32 ``[C, H, W]`` in [-1, 1], masks ``[1, H, W]`` of 0 and
            1 (1 = hidden), on the CPU; lists of pictures are lists of tensors. Labels are weights by class name.
        restore: brings a result back to the size of the request's picture; None if the request does not ask for it.
    """

    job: SimpleNamespace
    restore: Restoration | None


def prepare(id: str, request: JobRequest, card: ModelCard, blobs: Blobs) -> Prepared:
    """Read the pictures of the job ``id`` and fit them to its model.

    Raises:
        NotFoundError: a picture is not stored any more.
    """
    pictures = {given.name: _load(id, given.name, blobs) for given in request.given_pictures()}
    reading = _Reading(request, card, pictures)
    fields = dict(request)
    for field in request.pictures:
        fields[field] = reading.field(field)
    return Prepared(SimpleNamespace(**fields), reading.restoration())


class _Reading:
    """The pictures of one request."""

    def __init__(self, request: JobRequest, card: ModelCard, pictures: dict[str, Image.Image]) -> None:
        self._request, self._card, self._pictures = request, card, pictures
        self._fit: Fit = getattr(request, "fit", "cover")
        self._hidden = self._hidden_pixels() if request.masked(card) else None

    def field(self, field: str) -> Any:
        """The value of a field that holds a picture or several."""
        role = self._request.pictures[field]
        if role is Role.MASK:
            return self._mask()
        if isinstance(value := getattr(self._request, field), list):
            return [self._tensor(f"{field}.{k}", role) for k in range(len(value))]
        return None if value is None else self._tensor(field, role)

    def restoration(self) -> Restoration | None:
        if not getattr(self._request, "restore", False):
            return None
        picture = next(iter(self._pictures.values()))
        base = on_white(picture, 1 if picture.mode in ("L", "LA") else 3)
        return Restoration(self._frame(picture, self._card.image), base, self._hidden)

    def _frame(self, picture: Image.Image, shape: ImageShape) -> Frame:
        return Frame.of(picture.size, size_of(shape), self._fit)

    def _tensor(self, name: str, role: Role) -> Tensor:
        shape = self._card.image if role is Role.IMAGE else self._card.condition or self._card.image
        picture = self._pictures[name]
        plain = on_white(picture, shape.channels)
        if role is Role.IMAGE and self._hidden is not None:
            # What is hidden must not show in the pixels beside it once the picture is scaled.
            plain.paste("white", (0, 0, *plain.size), self._hidden)
        return to_float(_pixels(self._frame(picture, shape).apply(plain)))

    def _mask(self) -> Tensor | None:
        if self._hidden is None:
            return None
        mask = self._frame(self._hidden, self._card.image).apply_mask(self._hidden)
        return _pixels(mask).to(torch.float32) / 255

    def _hidden_pixels(self) -> Image.Image:
        """0 or 255: white of the mask, or without one what is transparent in the image."""
        names = {role: field for field, role in self._request.pictures.items()}
        mask, image = self._pictures.get(names[Role.MASK]), self._pictures[names[Role.IMAGE]]
        if mask is not None:
            return on_white(mask, 1).point(lambda value: 255 if value >= _HIDDEN_FROM else 0)
        return image.getchannel("A").point(lambda value: 255 if value < _HIDDEN_FROM else 0)


def _load(id: str, name: str, blobs: Blobs) -> Image.Image:
    try:
        data = blobs.get(job_input(id, name).key)
    except FileNotFoundError:
        raise NotFoundError("unknown-image", f"{name}: the picture is not stored any more; send it again") from None
    picture = PngImageFile(io.BytesIO(data))
    picture.load()
    return picture


def _pixels(picture: Image.Image) -> Tensor:
    """uint8 ``[C, H, W]``."""
    array = np.array(picture)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous()
