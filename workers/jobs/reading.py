"""The pictures of a request, which the API has fitted to the model: read, and made into tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.data.images import to_float
from pictures.budget import ByteBudget
from pictures.decoding import memory
from pictures.framing import Frame
from pictures.lightness import LIGHTNESS, LightnessName
from pictures.png import picture_of, size_of
from service.contract.cards import ModelCard
from service.contract.errors import NotFoundError
from service.contract.jobs import Inputs, JobRequest, Role, shape_of
from service.pictures.blobs import Blobs
from service.pictures.fitting import BASE, HIDDEN, kept_lightness
from service.pictures.places import shelf_key
from service.pictures.surfaces import coefficients_of
from surfaces.harmonics import Floats


class Reading:
    """The pictures, or the surface, of one request, as tensors on the CPU.

    Images are float32 ``[C, H, W]`` in [-1, 1] of the model's size, the mask ``[1, H, W]`` of 0 and 1 (1 = hidden).

    Args:
        request: what is asked for, resolved.
        fitted: its pictures, as :func:`service.pictures.fitting.fit` gives them.
        surface: the coefficients of its surface; None if it gives none.
    """

    def __init__(self, request: JobRequest, fitted: Mapping[str, Image.Image], surface: Tensor | None = None) -> None:
        self._request, self._fitted, self.surface = request, fitted, surface

    def picture(self, field: str) -> Tensor:
        """The picture of a field."""
        return to_float(_pixels(self._fitted[field]))

    def optional(self, field: str) -> Tensor | None:
        """The same, or None if the request gives none."""
        return self.picture(field) if field in self._fitted else None

    def several(self, field: str) -> list[Tensor] | None:
        """The pictures of a field that takes a list; None if the request gives none."""
        return [self.picture(name) for name in self._fitted if name.partition(".")[0] == field] or None

    def mask(self) -> Tensor | None:
        """What is hidden; None if the model has no use for a mask."""
        fields = [field for field, role in self._request.pictures.items() if role is Role.MASK]
        masks = [_pixels(self._fitted[field]) for field in fields if field in self._fitted]
        return masks[0].to(torch.float32) / 255 if masks else None


@dataclass(frozen=True)
class Restoration:
    """How results are brought back to the size of the picture that was sent.

    Args:
        frame: where the model's picture lies in it.
        load: gives the picture, without transparency, and the pixels that a result may change (0 or 255; None: all that
            the model saw). They are in memory for as long as :meth:`opened` lasts, and no longer.
        budget: memory for them.
        lightness: what results have of the picture that was sent, pixel by pixel; None: nothing.
    """

    frame: Frame
    load: Callable[[], tuple[Image.Image, Image.Image | None]]
    budget: ByteBudget
    lightness: LightnessName | None = None

    @contextmanager
    def opened(self) -> Iterator[Callable[[Image.Image], Image.Image]]:
        """A function that gives a result at that size."""
        with self.budget.take(memory(*self.frame.source)):
            base, hidden = self.load()

            def restored(result: Image.Image) -> Image.Image:
                full = self.frame.undo(result, base, hidden)
                return LIGHTNESS[self.lightness].taken(full, base) if self.lightness else full

            yield restored


def load(inputs: Inputs, request: JobRequest, card: ModelCard, blobs: Blobs) -> Reading:
    """The pictures that are kept for a job.

    Raises:
        NotFoundError: a picture is not stored any more, or was fitted to another model.
    """
    names = {name: kept for name, kept in inputs.pictures.items() if name not in (BASE, HIDDEN)}
    pictures = {name: _fitted(name, kept, request, card, blobs) for name, kept in names.items()}
    return Reading(request, pictures, _surface(inputs.surface, card, blobs) if inputs.surface else None)


def _surface(kept: str, card: ModelCard, blobs: Blobs) -> Tensor:
    """The coefficients of a surface, which may be NaN."""
    found = tensor_of(coefficients_of(_file("surface", kept, blobs)))
    if card.surface is None or len(found) != card.surface.degrees**2:
        raise NotFoundError(
            "unknown-image", f"surface: {card.ref} has changed since the surface was sent; send it again"
        )
    return found


def tensor_of(coefficients: Floats) -> Tensor:
    """Coefficients as tasks take them."""
    return torch.from_numpy(coefficients).to(torch.float32)


def restoration(
    inputs: Inputs, request: JobRequest, card: ModelCard, blobs: Blobs, budget: ByteBudget
) -> Restoration | None:
    """How results are brought back to the size of the job's picture; None if its request does not ask for it."""
    if inputs.frame is None:
        return None

    def read() -> tuple[Image.Image, Image.Image | None]:
        hidden = inputs.pictures.get(HIDDEN)
        base = picture_of(_file(BASE, inputs.pictures[BASE], blobs))
        return base, picture_of(_file(HIDDEN, hidden, blobs)) if hidden else None

    return Restoration(inputs.frame, read, budget, kept_lightness(request, card))


def _fitted(name: str, kept: str, request: JobRequest, card: ModelCard, blobs: Blobs) -> Image.Image:
    data, role = _file(name, kept, blobs), request.pictures[name.partition(".")[0]]
    shape = shape_of(request, role, card)
    if size_of(data) != (shape.width, shape.height):  # its memory is bounded by the model's
        raise NotFoundError(
            "unknown-image", f"{name}: {card.ref} has changed since the picture was sent; send it again"
        )
    return picture_of(data)


def _file(name: str, kept: str, blobs: Blobs) -> bytes:
    try:
        return blobs.get(shelf_key(kept))
    except FileNotFoundError:
        raise NotFoundError("unknown-image", f"{name}: the picture is not stored any more; send it again") from None


def _pixels(picture: Image.Image) -> Tensor:
    """uint8 ``[C, H, W]``."""
    array = np.array(picture)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous()
