"""What one iteration learns from, and where its random numbers come from: all on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

from models.core.noise import Noise, streams
from models.training.draws import Draws, Purpose


@final
@dataclass(frozen=True)
class Batch:
    """Conditions with what should be made of them.

    Args:
        c: ``[n, Cc, H, W]``, as H takes them.
        y: ``[n, C, H, W]`` in [-1, 1].
        weights: what each pixel counts, ``[n, 1, H, W]``.
        given: what a result is composed of beside what G makes, as the pose knows it.
    """

    c: Tensor
    y: Tensor
    weights: Tensor
    given: Tensor


@final
class Clock:
    """The keyed noise of iterations: a function of the seed, the purpose, the row, the iteration and the salt.

    The iteration lies on the device, so a captured graph draws other numbers each time.
    """

    def __init__(self, draws: Draws, n: int, device: torch.device) -> None:
        self._draws, self._n, self._device = draws, n, device
        self._streams: dict[Purpose, Tensor] = {}
        self._now = torch.zeros(n, dtype=torch.int64, device=device)

    def set(self, iteration: int, salt: int) -> None:
        """Which iteration it is."""
        self._now.fill_(iteration + (salt << 48))

    def __call__(self, purpose: Purpose, part: int = 0) -> Noise:
        """The noise of all rows for a purpose, or for one of its parts."""
        if purpose not in self._streams:
            self._streams[purpose] = streams(self._draws.rows(self._n, purpose), 0, self._device)
        return Noise.at(self._streams[purpose], self._now + (part << 32))


class Pose(Protocol):
    """One kind of task: how data become conditions and targets, and how results are shown."""

    condition_channels: int
    channels: int

    def batch(self, clock: Clock, n: int) -> Batch:
        """n examples drawn at random and changed a little."""

    def fixed(self, n: int) -> Batch:
        """At most n examples, evenly spaced in the data and as they are; the same each time."""

    def shown(self, made: Tensor, given: Tensor) -> Tensor:
        """Results as pictures in [-1, 1]: what G made, composed with what was given."""

    def condition(self, batch: Batch) -> Tensor:
        """The conditions as pictures of the results' channels."""

    def reference(self, images: Tensor) -> Tensor:
        """uint8 images of the data as results are shown."""
