r"""Keyed noise: every random number of a row is a function of the row's key alone.

A row's noise depends on ``(seed, loop, step, draw)`` and on nothing else: not on the rows beside it, not on how often
the process was restarted. So a request gives the same image whatever shares its batch, and a chain that was saved as
``(state, loop, step)`` goes on exactly where it stopped.

The generator is counter-based, made of integer operations, and runs where the rows live. Bits are the same on every
device; normal numbers agree to the rounding of the device's logarithm, sine and cosine. Number i of a draw comes
from SplitMix64 (Steele et al., OOPSLA 2014),

.. math:: z_i = \mathrm{finalize}(k + (i + 1) \gamma), \quad k = \mathrm{mix}(seed, loop, step, draw)

whose two halves give two uniform numbers, or two normal ones by the transform of Box and Muller (1958).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Self, final

import torch
from torch import Tensor

from models.core.fused import FusedNoise

STREAM = 2
"""The version of the numbers. A chain that was saved with another one can't go on with the same bytes."""

_MASK = (1 << 64) - 1
_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_LOW = (1 << 32) - 1


def _signed(bits: int) -> int:
    """64 bits as torch's integers have them."""
    return bits - (1 << 64) if bits >> 63 else bits


_GAMMA_S, _FIRST_S, _SECOND_S = _signed(_GAMMA), _signed(_FIRST), _signed(_SECOND)


def mix(*keys: int) -> int:
    """Hash integers into one well-spread 64-bit seed (the finalizer of SplitMix64, folded over the keys).

    Neighbouring keys (seed 7 and 8, step 3 and 4) give unrelated results, which a plain sum would not.
    """
    h = _GAMMA
    for key in keys:
        h = (h ^ (key & _MASK)) * _FIRST & _MASK
        h ^= h >> 27
        h = h * _SECOND & _MASK
        h ^= h >> 31
    return h


class Key(NamedTuple):
    """What one row's noise depends on, apart from the number of the draw within the step."""

    seed: int
    loop: int
    step: int


def streams(seeds: Sequence[int], loop: int, device: torch.device | str = "cpu") -> Tensor:
    """The part of the rows' keys that stays the same through a loop, int64 ``[rows]``, for :meth:`Noise.at`."""
    return as_tensor([mix(seed, loop) for seed in seeds], device)


def folded(prefix: Sequence[int], *keys: Tensor) -> Tensor:
    """:func:`mix` of known keys and of some that are on a device, int64 that broadcast together; nothing is sent there
    for it.
    """
    h: Tensor | int = _signed(mix(*prefix))
    for key in keys:
        h = _fold(h, key)
    assert isinstance(h, Tensor)
    return h


def as_tensor(hashes: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """What :func:`mix` gave, as int64 of the same bits."""
    return torch.tensor([_signed(h) for h in hashes], dtype=torch.int64).to(device, non_blocking=True)


@final
class Noise:
    """The noise of one step of a batch of rows. Each call is the next *draw*; kernels draw in a fixed order.

    Numbers are float32 on the device of the keys, and are drawn there: nothing waits for the host.
    """

    def __init__(self, keys: Sequence[Key], device: torch.device | str = "cpu") -> None:
        self._streams = as_tensor([mix(key.seed, key.loop) for key in keys], device)
        self._steps = as_tensor([key.step for key in keys], device)
        self._draw = -1

    @classmethod
    def at(cls, streams: Tensor, steps: Tensor) -> Self:
        """The noise of rows that are at these steps of their loops, both int64 ``[rows]``."""
        noise = cls([])
        noise._streams, noise._steps = streams, steps
        return noise

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, ``[rows, *shape]``."""
        n = math.prod(shape)
        numbers = _FUSED.normal(*self._next(n))
        if numbers is None:
            numbers = _normal(_bits(self._streams, self._steps, self._draw, (n + 1) // 2))
        return numbers[:, :n].reshape(len(numbers), *shape)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), ``[rows, *shape]``: multiples of 2^-24."""
        n = math.prod(shape)
        bits = _FUSED.bits(*self._next(n))
        if bits is None:
            bits = _bits(self._streams, self._steps, self._draw, (n + 1) // 2)
        halves = torch.cat([_high(bits) >> 8, (bits & _LOW) >> 8], 1)
        return _float(halves).mul_(2.0**-24)[:, :n].reshape(len(halves), *shape)

    def _next(self, n: int) -> tuple[Tensor, Tensor, int, int]:
        """Begin a draw of n numbers a row; each 64 bits give two of them."""
        self._draw += 1
        return self._streams, self._steps, self._draw, (n + 1) // 2


def _bits(streams: Tensor, steps: Tensor, draw: int, count: int) -> Tensor:
    """So many 64-bit numbers a row, int64 ``[rows, count]``."""
    keys = _fold(_fold(streams, steps), draw)
    z = keys[:, None] + torch.arange(1, count + 1, device=keys.device).mul_(_GAMMA_S)
    z = _shifted(z, 30).mul_(_FIRST_S)
    z = _shifted(z, 27).mul_(_SECOND_S)
    return _shifted(z, 31)


def _normal(bits: Tensor) -> Tensor:
    """Two standard normal numbers of each 64 bits: first all of the cosine, then all of the sine."""
    # Half a unit keeps the logarithm finite; the smallest number reaches 6.8 standard deviations.
    radius = _float(_high(bits)).mul_(2.0**-32).add_(2.0**-33).log_().mul_(-2).sqrt_()
    angle = _float(bits & _LOW).mul_(2 * math.pi * 2.0**-32)
    return torch.cat([angle.cos().mul_(radius), angle.sin_().mul_(radius)], 1)


_FUSED = FusedNoise(_bits, _normal)


def _fold(h: Tensor | int, key: Tensor | int) -> Tensor:
    """One more key of :func:`mix`."""
    h = _shifted(torch.mul(h ^ key, _FIRST_S), 27).mul_(_SECOND_S)
    return _shifted(h, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """z xor (z >> by) of unsigned numbers, in place: torch's shift copies the sign."""
    return z.bitwise_xor_((z >> by).bitwise_and_((1 << (64 - by)) - 1))


def _high(bits: Tensor) -> Tensor:
    return (bits >> 32).bitwise_and_(_LOW)


def _float(whole: Tensor) -> Tensor:
    return whole.to(torch.float32)


def row_seeds(seed: int, n: int) -> list[int]:
    """The noise keys of a job's n rows: row k depends on the job's seed and on k, not on n.

    Asking for more images with the same seed therefore repeats the first ones. The first key is the seed itself:
    any key, sent back as the seed of a job with one row, gives that row again. The others have 53 bits, for they are
    shown to clients, and JSON numbers are exact only so far.
    """
    return [seed if k == 0 else mix(seed, k) >> 11 for k in range(n)]
