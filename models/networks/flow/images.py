"""A flow as a density of images, and as a generator of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.networks.flow.coordinates import MIDDLE, decode, decode_as_published, encode
from models.networks.flow.dequantisation import VariationalDequantisation, normal_log_density
from models.networks.flow.flowpp import FlowConfig, FlowPlusPlus, steps_of


class ImageFlow(nn.Module):
    """q(x): z ~ N(0, I), x = decode(flow^-1(z)). Log densities are in v, see :mod:`models.networks.flow.coordinates`.

    Args:
        config: the sizes of the flow.
        channels: of the images.
        legacy_decode: decode as the authors' code does, for weights that they have published.
    """

    def __init__(self, config: FlowConfig, channels: int, *, legacy_decode: bool = False) -> None:
        super().__init__()
        self.flow = FlowPlusPlus(config, channels)
        variational = config.dequantisation == "variational"
        self.dequantisation = VariationalDequantisation(config, channels) if variational else None
        self._decode = decode_as_published if legacy_decode else decode

    @property
    def fitted(self) -> bool:
        """Whether :meth:`fit` was called, or such weights were loaded: before, no number means anything."""
        return all(bool(step.norm.fitted) for step in steps_of(self))

    @torch.no_grad()
    def fit(self, images: Tensor, noise: Tensor) -> None:
        """Let all norms fit to images: once, before the first update.

        Args:
            images: ``[n, C, H, W]`` in [-1, 1], some hundreds.
            noise: like the images: uniform in [0, 1), or standard normal where the dequantisation is variational.
        """
        u = noise if self.dequantisation is None else self.dequantisation(images, noise, fit=True)[0]
        self.flow(encode(images, u)[0], fit=True)

    def propose(self, z: Tensor) -> Tensor:
        """Images of latents, in [-1, 1]; without gradients."""
        with torch.no_grad():
            return self.decoded(z).clamp(-1, 1)

    def decoded(self, z: Tensor) -> Tensor:
        """The same, not clipped and differentiable in z."""
        return self._decode(self.flow.inverse(z))

    def latent(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z of images at u = 1/2, and their log density in nats, ``[n]``."""
        return self._density(x, MIDDLE)

    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        r"""log q_v(v) of each row at a random v, less log r(u | x) where the dequantisation is variational, ``[n]``.

        Its mean over noise is a lower bound of the log probability of an 8-bit image plus 8 D log 2.

        Args:
            x: images in [-1, 1].
            noise: as for :meth:`fit`.
        """
        if self.dequantisation is None:
            return self._density(x, noise)[1]
        u, log_r = self.dequantisation(x, noise)
        return self._density(x, u)[1] - log_r

    def _density(self, x: Tensor, u: Tensor | float) -> tuple[Tensor, Tensor]:
        logits, encoded = encode(x, u)
        z, volume = self.flow(logits)
        return z, normal_log_density(z) + volume + encoded


def bits_per_dimension(log_density: Tensor, dimensions: int) -> Tensor:
    """Bits a dimension of 8-bit images from log q_v in nats: 8 - log2(q_v) / D."""
    return 8 - log_density / (math.log(2) * dimensions)
