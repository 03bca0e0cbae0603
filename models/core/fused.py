"""Keyed noise on a GPU in one operation.

As operations of torch a draw is some fifty, of which each is launched by itself: for small batches that is half of a
step. This one is compiled when it is first asked for, and used only if its numbers are those of the operations.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeAlias, final

import torch
from torch import Tensor

log = logging.getLogger(__name__)

_BITS = """
  const unsigned long long first = 0xBF58476D1CE4E5B9ull, second = 0x94D049BB133111EBull;
  unsigned long long count = (unsigned long long)counter;
  unsigned long long z = ((unsigned long long)stream ^ (unsigned long long)step) * first;
  z = (z ^ (z >> 27)) * second;
  z = ((z ^ (z >> 31)) ^ (count >> 32)) * first;
  z = (z ^ (z >> 27)) * second;
  z = (z ^ (z >> 31)) + (count & 0xFFFFFFFFull) * 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * first;
  z = (z ^ (z >> 27)) * second;
  z = z ^ (z >> 31);
"""
"""Both keys are folded in, the step and the draw, which is the upper half of the counter; see ``models.core.noise``."""

BITS = f"template <typename T> T keyed_bits(T stream, T step, T counter) {{{_BITS}  return (T)z;\n}}"
NORMAL = f"""template <typename T> T keyed_normal(T stream, T step, T counter) {{{_BITS}
  float high = (float)(unsigned int)(z >> 32), low = (float)(unsigned int)z;
  float radius = sqrtf(logf(high * 2.3283064365386963e-10f + 1.1641532182693481e-10f) * -2.0f);
  float angle = low * 1.4629180792671596e-09f;
  unsigned long long a = __float_as_uint(cosf(angle) * radius), b = __float_as_uint(sinf(angle) * radius);
  return (T)((b << 32) | a);
}}"""
"""Two numbers of one counter, in the halves of the result."""

_TOLERANCE = 1e-5

Bits: TypeAlias = Callable[[Tensor, Tensor, int, int], Tensor]
"""Streams and steps int64 ``[rows]``, the draw, a count -> so many 64-bit numbers a row, int64 ``[rows, count]``."""


@final
class FusedNoise:
    """Draws on CUDA devices.

    Args:
        bits: the same in operations of torch.
        normal: two standard normal numbers of each of these bits: first all of the cosine, then all of the sine.
    """

    def __init__(self, bits: Bits, normal: Callable[[Tensor], Tensor]) -> None:
        self._plain_bits, self._plain_normal = bits, normal
        self._lock = threading.Lock()
        self._kernels: dict[torch.device, tuple[Callable[..., Tensor], Callable[..., Tensor]] | None] = {}

    def bits(self, streams: Tensor, steps: Tensor, draw: int, count: int) -> Tensor | None:
        """What ``bits`` gives; None: not on this device."""
        kernels = self._of(streams.device)
        return _called(kernels[0], streams, steps, draw, count) if kernels else None

    def normal(self, streams: Tensor, steps: Tensor, draw: int, count: int) -> Tensor | None:
        """What ``normal`` gives of these bits, float32 ``[rows, 2 * count]``; None: not on this device."""
        kernels = self._of(streams.device)
        return _sorted(_called(kernels[1], streams, steps, draw, count)) if kernels else None

    def _of(self, device: torch.device) -> tuple[Callable[..., Tensor], Callable[..., Tensor]] | None:
        if device.type != "cuda":
            return None
        with self._lock:
            if device not in self._kernels:
                self._kernels[device] = self._made(device)
            return self._kernels[device]

    def _made(self, device: torch.device) -> tuple[Callable[..., Tensor], Callable[..., Tensor]] | None:
        """The operations, tried out; None with a warning if they can't be had."""
        try:
            bits, normal = (torch.cuda.jiterator._create_jit_fn(code) for code in (BITS, NORMAL))
            streams = torch.arange(-3, 4, device=device) * 0x1234567890ABCDEF
            given = streams, torch.arange(7, device=device) * 31, 2, 999
            wanted = self._plain_bits(*given)
            if not torch.equal(_called(bits, *given), wanted):
                raise ValueError("its bits are other ones")
            if not (_sorted(_called(normal, *given)) - self._plain_normal(wanted)).abs().max() <= _TOLERANCE:
                raise ValueError("its normal numbers are other ones")
        except Exception as error:  # whatever a compiler may say
            log.warning("noise is drawn in many operations: %s", error)
            return None
        return bits, normal


def _called(kernel: Callable[..., Tensor], streams: Tensor, steps: Tensor, draw: int, count: int) -> Tensor:
    first = (draw << 32) + 1
    return kernel(streams[:, None], steps[:, None], torch.arange(first, first + count, device=streams.device)[None])


def _sorted(pairs: Tensor) -> Tensor:
    return pairs.view(torch.float32).unflatten(1, (-1, 2)).transpose(1, 2).flatten(1)
