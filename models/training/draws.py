"""All that is random in a training, keyed by what it is for and when: a resumed training repeats it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import final

import torch
from torch import Tensor

from models.core.noise import Key, Noise, folded, mix


class Purpose(IntEnum):
    """What random numbers are for.

    Purposes that no trainer has together share a number. Numbers never change: with others a training could not be
    repeated from its seed.
    """

    DATA = 0
    START = 1
    GENERATED = 1
    CHAIN = 2
    FOOLING = 2
    SHEET = 3
    DATA_NOISE = 3
    STATISTICS = 4
    FLIP = 4
    AUGMENT = 5
    DRAW = 5
    HOLES = 6
    CORRUPTION = 6
    MIXTURE = 6
    INSTANCE_NOISE = 7
    DEQUANTISATION = 7
    MATCHING = 7
    OUTLIERS = 8


@final
@dataclass(frozen=True)
class Draws:
    """Random numbers as a function of a seed and of keys: a purpose, then the iteration, the salt, the row ...

    Args:
        seed: of the training.
    """

    seed: int

    def key(self, *keys: int) -> int:
        """One seed."""
        return mix(self.seed, *keys)

    def rows(self, n: int, *keys: int) -> list[int]:
        """One seed a row, for the loops of a task."""
        return [mix(self.seed, *keys, row) for row in range(n)]

    def noise(self, n: int, *keys: int, device: torch.device | str = "cpu") -> Noise:
        """Keyed noise of n rows, as kernels are given it."""
        return Noise([Key(seed, 0, 0) for seed in self.rows(n, *keys)], device)

    def noise_at(self, n: int, purpose: int, *keys: Tensor) -> Noise:
        """The numbers of :meth:`noise` for keys that are on a device, int64 ``[1]``: nothing is sent there, so that it
        can be a part of a captured graph.
        """
        seeds = folded([self.seed, purpose], *keys, torch.arange(n, device=keys[0].device))
        return Noise.at(folded([], seeds, torch.zeros_like(seeds)), torch.zeros_like(seeds))

    def generator(self, *keys: int) -> torch.Generator:
        """A generator on the CPU."""
        return torch.Generator().manual_seed(self.key(*keys))

    def index(self, high: int, n: int, *keys: int) -> Tensor:
        """n numbers below ``high``, int64."""
        return torch.randint(high, (n,), generator=self.generator(*keys))

    def weights(self, *keys: int) -> None:
        """Seed torch's own generator, from which layers draw their first weights."""
        torch.manual_seed(self.key(*keys) >> 1)
