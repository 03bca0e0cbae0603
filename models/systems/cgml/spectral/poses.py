"""Spectral maps as conditions and targets, on the device; see :class:`models.systems.cgml.batch.Pose`."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from models.core.noise import Noise
from models.data.images import ImageData, to_float
from models.systems.cgml.batch import Batch, Clock
from models.systems.cgml.images.forms import with_hole
from models.systems.cgml.spectral.config import Config
from models.training.draws import Purpose
from surfaces.maps import scales

_HELD = 7
"""The seed of the noise of fixed examples."""
_SEEN = 1.5
"""H sees no more of a value, however far it is out."""


def condition(noisy: Tensor, unknown: Tensor) -> Tensor:
    """Noisy maps ``[n, 1, L, L]``, and 1 where they are unknown, as H takes them."""
    return with_hole(noisy.clamp(-_SEEN, _SEEN), unknown, "mask")


@final
class Cleaning:
    """The condition is the map under noise, in part unknown; G makes what must be added to it.

    A map that comes back as it was needs no work then: the networks learn the noise, which is smaller, and the finest
    details need not pass through them.
    """

    condition_channels, channels = 2, 1

    def __init__(self, config: Config, data: ImageData, device: torch.device) -> None:
        self._config, self._maps = config, data.images.to(device)
        squares = torch.from_numpy(scales(config.deviations) ** 2).to(device, torch.float32)
        side = config.degrees
        weights = 1 - config.by_radius + config.by_radius * squares / squares.mean()
        self._weights = weights.reshape(1, 1, side, side)

    def batch(self, clock: Clock, n: int) -> Batch:
        u = clock(Purpose.DATA).uniform(1)[:n, 0]
        chosen = self._maps[(u * len(self._maps)).long().clamp(max=len(self._maps) - 1)]
        return self._posed(to_float(chosen), clock(Purpose.DATA_NOISE), n)

    def fixed(self, n: int) -> Batch:
        every = max(len(self._maps) // n, 1)
        maps = to_float(self._maps[::every][:n])
        keys = torch.arange(len(maps), device=maps.device)
        return self._posed(maps, Noise.at(keys, torch.full_like(keys, _HELD)), len(maps))

    def _posed(self, maps: Tensor, noise: Noise, n: int) -> Batch:
        side = maps.shape[-1]
        low, high = self._config.noise
        u = noise.uniform(4)[:n]
        spread = (low + (high - low) * u[:, 0])[:, None, None, None]
        unknown = squares(u[:, 1:], side, self._config.hidden)
        noisy = torch.where(unknown > 0, 0.0, maps + spread * noise.normal(1, side, side)[:n])
        lacking = (maps - noisy).clamp(-1, 1)
        return Batch(condition(noisy, unknown), lacking, self._weights.expand_as(maps), noisy)

    def shown(self, made: Tensor, given: Tensor) -> Tensor:
        return given + made

    def condition(self, batch: Batch) -> Tensor:
        return batch.given.clamp(-1, 1)

    def reference(self, images: Tensor) -> Tensor:
        return to_float(images)


def squares(u: Tensor, side: int, share: float) -> Tensor:
    """1 in a square of half the side, anywhere, in this share of the rows; of uniform numbers ``[n, 3]``."""
    line, half = torch.arange(side, device=u.device), side // 2
    inside = []
    for k in (1, 2):
        start = (u[:, k] * (half + 1)).floor()[:, None]
        inside.append((line >= start) & (line < start + half))
    found = inside[0][:, :, None] & inside[1][:, None, :] & (u[:, 0] < share)[:, None, None]
    return found[:, None].to(u.dtype)
