"""The pictures of a request: read, fitted to the model, and made into tensors."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from models.data.images import to_float
from service.contract.cards import ImageShape, ModelCard
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


class Reading:
    """The pictures of one request, as tensors on the CPU.

    Images are float32 ``[C, H, W]`` in [-1, 1] of the model's size, the mask ``[1, H, W]`` of 0 and 1 (1 = hidden).

    Args:
        request: what is asked for, resolved.
        card: of its model.
        pictures: by the names of ``request.given_pictures()``, as they were sent.
    """

    def __init__(self, request: JobRequest, card: ModelCard, pictures: Mapping[str, Image.Image]) -> None:
        self._request, self._card, self._pictures = request, card, pictures
        self._fit: Fit = getattr(request, "fit", "cover")
        self._hidden = self._hidden_pixels() if request.masked(card) else None

    def picture(self, field: str) -> Tensor:
        """The picture of a field."""
        return self._tensor(field, self._request.pictures[field])

    def optional(self, field: str) -> Tensor | None:
        """The same, or None if the request gives none."""
        return self.picture(field) if field in self._pictures else None

    def several(self, field: str) -> list[Tensor] | None:
        """The pictures of a field that takes a list; None if the request gives none."""
        names = [name for name in self._pictures if name.partition(".")[0] == field]
        return [self._tensor(name, self._request.pictures[field]) for name in names] or None

    def mask(self) -> Tensor | None:
        """What is hidden; None for a task that knows no mask."""
        if self._hidden is None:
            return None
        mask = self._frame(self._hidden, self._card.image).apply_mask(self._hidden)
        return _pixels(mask).to(torch.float32) / 255

    def restoration(self) -> Restoration | None:
        """How results are brought back to the size of the request's picture; None if it does not ask for it."""
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

    def _hidden_pixels(self) -> Image.Image:
        """0 or 255: white of the mask, or without one what is transparent in the image."""
        names = {role: field for field, role in self._request.pictures.items()}
        mask, image = self._pictures.get(names[Role.MASK]), self._pictures[names[Role.IMAGE]]
        if mask is not None:
            return on_white(mask, 1).point(lambda value: 255 if value >= _HIDDEN_FROM else 0)
        return image.getchannel("A").point(lambda value: 255 if value < _HIDDEN_FROM else 0)


def load(id: str, request: JobRequest, blobs: Blobs) -> dict[str, Image.Image]:
    """The pictures that are stored with the job ``id``, by name.

    Raises:
        NotFoundError: a picture is not stored any more.
    """
    return {given.name: _load(id, given.name, blobs) for given in request.given_pictures()}


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
