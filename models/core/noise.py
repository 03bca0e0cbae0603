"""Keyed noise: every random number of a row is a function of the row's key alone.

A row's noise depends on ``(seed, loop, step, draw)`` and on nothing else: not on the rows beside it, not on how often
the process was restarted. So a request gives the same image in any company, and a chain that was saved as
``(state, loop, step)`` goes on exactly where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_MASK = (1 << 64) - 1


def mix(*keys: int) -> int:
    """Hash integers into one well-spread 64-bit seed (the finalizer of SplitMix64, folded over the keys).

    Neighbouring keys (seed 7 and 8, step 3 and 4) give unrelated results, which a plain sum would not.
    """
    h = 0x9E3779B97F4A7C15
    for key in keys:
        h = (h ^ (key & _MASK)) * 0xBF58476D1CE4E5B9 & _MASK
        h ^= h >> 27
        h = h * 0x94D049BB133111EB & _MASK
        h ^= h >> 31
    return h


class Key(NamedTuple):
    """What one row's noise depends on, apart from the number of the draw within the step."""

    seed: int
    loop: int
    step: int


class Noise:
    """The noise of one step of a batch of rows. Each call is the next *draw*; kernels draw in a fixed order.

    Numbers are drawn on the CPU, so that they are the same whatever device the rows live on, and then moved.
    """

    def __init__(self, keys: Sequence[Key] | Callable[[], Sequence[Key]], device: torch.device | str = "cpu") -> None:
        self._keys = keys  # a function is called only if noise is drawn: most chains draw none
        self._device = torch.device(device)
        self._draw = 0
        self._generator = torch.Generator()

    def _seeds(self) -> list[int]:
        """The generators' seeds for the next draw, one a row."""
        if callable(self._keys):
            self._keys = self._keys()
        self._draw += 1
        return [mix(*key, self._draw - 1) for key in self._keys]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, ``[rows, *shape]``, float32."""
        seeds = self._seeds()
        out = torch.empty(len(seeds), *shape)
        for row, seed in zip(out, seeds, strict=True):
            row.normal_(generator=self._generator.manual_seed(seed))
        return out.to(self._device)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), ``[rows, *shape]``, float32."""
        seeds = self._seeds()
        out = torch.empty(len(seeds), *shape)
        for row, seed in zip(out, seeds, strict=True):
            row.uniform_(generator=self._generator.manual_seed(seed))
        return out.to(self._device)


def row_seeds(seed: int, n: int) -> list[int]:
    """The noise keys of a job's n rows: row k depends on the job's seed and on k, not on n.

    Asking for more images with the same seed therefore repeats the first ones. Keys have 53 bits: they are shown to
    clients, and JSON numbers are exact only so far.
    """
    return [mix(seed, k) >> 11 for k in range(n)]
