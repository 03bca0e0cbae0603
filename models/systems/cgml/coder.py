"""H and G together, as they are trained and as they are read."""

from __future__ import annotations

from typing import Any, final

from torch import nn

from models.systems.cgml.networks import ENCODERS, GENERATORS, Encoder, Generator, NetworkConfig


@final
class Coder(nn.Module):
    """The encoder H of conditions and the generator G of images.

    Args:
        config: sizes.
        condition_channels: of what H takes.
        channels: of what G makes.
    """

    def __init__(self, config: NetworkConfig, condition_channels: int, channels: int) -> None:
        super().__init__()
        encoder, generator = ENCODERS[config.kind], GENERATORS[config.kind]
        self.encoder: Any = encoder(config, condition_channels)
        self.generator: Any = generator(config, channels)

    @property
    def encode(self) -> Encoder:
        """c -> bottleneck, h and skips."""
        encoder: Encoder = self.encoder
        return encoder

    @property
    def make(self) -> Generator:
        """(h, z, skips) -> images."""
        generator: Generator = self.generator
        return generator
