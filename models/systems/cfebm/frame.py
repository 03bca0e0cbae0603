"""The border around images: networks take sizes that are powers of two, data come as they are."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from models.core.loop import Rows
from models.systems.cfebm.config import Config


class Frame:
    """Puts images of the data's size into the network's, and takes them out again."""

    def __init__(self, config: Config) -> None:
        self._size, self._border = config.size, config.border
        self._margin = (config.size - config.image_size) // 2

    def padded(self, images: Tensor, fill: float | None = None) -> Tensor:
        """Images of the data's size with the border that the network sees around them (or another number)."""
        return F.pad(images, (self._margin,) * 4, value=self._border if fill is None else fill)

    def cropped(self, images: Tensor) -> Tensor:
        """What :meth:`padded` took, from images of any stage: coarse ones are shown at full size."""
        grown = F.interpolate(images, scale_factor=self._size // images.shape[-1])
        inner = slice(self._margin, self._size - self._margin)
        return grown[..., inner, inner]

    def cropped_film(self, film: Tensor) -> Tensor:
        """The same for ``[n, frames, C, H, W]``."""
        return self.cropped(film.flatten(0, 1)).unflatten(0, film.shape[:2])

    def shown(self, rows: Rows) -> Tensor:
        """The rows as pictures, at whatever stage they are."""
        return self.cropped(rows["y"].clamp(-1, 1))
