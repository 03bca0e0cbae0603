"""The initializer as a decoder in whose latents images are looked for."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from models.core.loop import Rows
from models.systems.ccoopnets.labels.model import CCoopNets


@final
class LabelDecoder:
    """G(z, c) = g(z, c) with the class c of each row in its ``c`` ``[K]``; see ``models.samplers.cogeneration``."""

    scale_invariant = False

    def __init__(self, model: CCoopNets) -> None:
        self._initializer, self._device = model.initializer, model.device
        self.latent_shape = (model.initializer.latent,)
        self.image_shape = (model.config.channels, model.config.size, model.config.size)
        self._classes = len(model.classes)

    @property
    def condition(self) -> Rows:
        c = torch.zeros(1, self._classes, device=self._device)
        c[:, 0] = 1
        return {"c": c}

    def decode(self, z: Tensor, rows: Rows) -> Tensor:
        image: Tensor = self._initializer(z, rows["c"])
        return image
