"""The flow as a decoder in whose latents images are looked for."""

from __future__ import annotations

from typing import final

from torch import Tensor

from models.core.loop import Rows
from models.networks.flow.images import ImageFlow
from models.systems.coopflow.config import Config


@final
class FlowDecoder:
    """G(z) = decode(flow^-1(z)), z as large as the image; see ``models.samplers.cogeneration``.

    Its gradient is that of the inverse function, see ``models.networks.flow.mixture.unlogit``.
    """

    scale_invariant = False

    def __init__(self, config: Config, flow: ImageFlow) -> None:
        self._flow = flow
        self.latent_shape = self.image_shape = (config.channels, config.size, config.size)

    @property
    def condition(self) -> Rows:
        """Nothing: it has no classes."""
        return {}

    def decode(self, z: Tensor, rows: Rows) -> Tensor:
        del rows
        return self._flow.decoded(z)
