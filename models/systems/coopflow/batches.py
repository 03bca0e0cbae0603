"""What an iteration learns from: the images of its batch, and its noise, made on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from models.core.noise import Noise, folded
from models.data.images import ImageData
from models.systems.coopflow.config import Config
from models.systems.frame import prepared
from models.training.draws import Draws, Purpose


@final
@dataclass(frozen=True, eq=False)
class Given:
    """What differs between iterations, on the device.

    Args:
        chosen: the places of the batch's images, int64 ``[n]``.
        keys: the iteration and the salt, int64 ``[2]``.
    """

    chosen: Tensor
    keys: Tensor

    def overwrite(self, other: Given) -> None:
        """Become the other, where this one is."""
        self.chosen.copy_(other.chosen)
        self.keys.copy_(other.keys)


@final
class Batches:
    """Images, and all that is random in an iteration.

    Args:
        config: fitted to the data.
        data: the observed images.
        draws: keys.
        device: where the training computes.
    """

    def __init__(self, config: Config, data: ImageData, draws: Draws, device: torch.device) -> None:
        self._config, self._draws, self._device = config, draws, device
        self._images = data.images.to(device)

    def __len__(self) -> int:
        return len(self._images)

    def given(self, n: int, iteration: int, salt: int) -> Given:
        """A batch of n images."""
        chosen = self._draws.index(len(self), n, Purpose.DATA, iteration, salt)
        keys = torch.tensor([iteration, salt])
        return Given(chosen.to(self._device, non_blocking=True), keys.to(self._device, non_blocking=True))

    def observed(self, given: Given) -> Tensor:
        """The images as the networks see them, ``[n, C, size, size]``."""
        images = prepared(self._images[given.chosen], self._config, self._config.size)
        if self._config.training.flip:
            flipped = self._noise(given, Purpose.FLIP).uniform(1, 1, 1) < 0.5
            images = torch.where(flipped, images.flip(3), images)
        return images

    def with_noise(self, given: Given, images: Tensor) -> Tensor:
        """The images as the energy learns them."""
        scale = self._config.training.data_noise
        if not scale:
            return images
        return (images + scale * self._noise(given, Purpose.DATA_NOISE).normal(*images.shape[1:])).clamp(-1, 1)

    def dequantisation(self, given: Given) -> Tensor:
        """The noise with which the flow sees images, ``[n, C, size, size]``."""
        noise = self._noise(given, Purpose.DEQUANTISATION)
        uniform = self._config.flow.dequantisation == "uniform"
        return (noise.uniform if uniform else noise.normal)(self._config.channels, *[self._config.size] * 2)

    def seeds(self, given: Given) -> Tensor:
        """One for each chain, int64 ``[n]``."""
        rows = torch.arange(len(given.chosen), device=self._device)
        return folded([self._draws.seed, Purpose.CHAIN], *given.keys.split(1), rows)

    def _noise(self, given: Given, purpose: Purpose) -> Noise:
        return self._draws.noise_at(len(given.chosen), purpose, *given.keys.split(1))
