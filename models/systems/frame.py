"""The border around images: networks take sizes that are powers of two, data come as they are."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from models.core.loop import Rows
from models.data.images import fit, to_float


class Framed(Protocol):
    """The part of a configuration that says how images lie in what the networks see."""

    @property
    def size(self) -> int:
        """Pixels of the side that the networks see."""

    @property
    def image_size(self) -> int:
        """Pixels of the side of the images, at most ``size``."""

    @property
    def channels(self) -> int:
        """1 = grey, 3 = colour."""

    @property
    def border(self) -> float:
        """What the pixels around them are, in [-1, 1]."""


class Frame:
    """Puts images of the data's size into the network's, and takes them out again."""

    def __init__(self, config: Framed) -> None:
        self._size, self._border = config.size, config.border
        self.margin = (config.size - config.image_size) // 2

    def padded(self, images: Tensor, fill: float | None = None) -> Tensor:
        """Images of the data's size with the border that the network sees around them (or another number)."""
        return F.pad(images, (self.margin,) * 4, value=self._border if fill is None else fill)

    def cropped(self, images: Tensor) -> Tensor:
        """What :meth:`padded` took, from images of any stage: coarse ones are shown at full size."""
        grown = F.interpolate(images, scale_factor=self._size // images.shape[-1])
        inner = slice(self.margin, self._size - self.margin)
        return grown[..., inner, inner]

    def cropped_film(self, film: Tensor) -> Tensor:
        """The same for ``[n, frames, C, H, W]``."""
        return self.cropped(film.flatten(0, 1)).unflatten(0, film.shape[:2])

    def shown(self, rows: Rows) -> Tensor:
        """The rows as pictures, at whatever stage they are."""
        return self.cropped(rows["y"].clamp(-1, 1))


def prepared(images: Tensor, config: Framed, size: int) -> Tensor:
    """uint8 images of the data -> floats in [-1, 1] at the size of a stage: padded by the border, then averaged."""
    return pooled(Frame(config).padded(to_float(images)), size)


def fitted(images: Tensor, config: Framed, size: int) -> Tensor:
    """The same of images as the data have them, which may be larger or of other channels."""
    return prepared(fit(images, config.image_size, config.channels), config, size)


def pooled(images: Tensor, size: int) -> Tensor:
    """Images averaged down to a size that divides theirs."""
    factor = images.shape[-1] // size
    return F.avg_pool2d(images, factor) if factor > 1 else images
