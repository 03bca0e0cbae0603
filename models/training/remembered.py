"""The newest numbers of a training, on the device that they come from."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor


@final
class Remembered:
    """The newest numbers of a kind, at most so many; only :meth:`known` waits for their device.

    Args:
        most: how many.
        device: where they are.
        enough: how many have a median; by default ``most``.
    """

    def __init__(self, most: int, device: torch.device, enough: int | None = None) -> None:
        self._numbers = torch.full((most,), torch.nan, dtype=torch.float64, device=device)
        self._enough = enough or most

    def add(self, number: Tensor, wanted: Tensor | None = None) -> None:
        """Remember a number; with ``wanted`` (bool ``[]``) only where that is true."""
        later = torch.cat([self._numbers[1:], number.detach().double()[None]])
        self._numbers.copy_(later if wanted is None else torch.where(wanted, later, self._numbers))

    def median(self) -> Tensor:
        """Of the numbers; infinite while there are fewer than have one."""
        count = (~self._numbers.isnan()).sum()
        middle = torch.stack([(count - 1).clamp(min=0) // 2, count.clamp(max=len(self._numbers) - 1) // 2])
        return torch.where(count < self._enough, torch.inf, self._numbers.sort()[0].take(middle).mean())

    def known(self) -> Tensor:
        """The numbers, oldest first, on the CPU."""
        numbers = self._numbers.cpu()
        return numbers[~numbers.isnan()]

    def recall(self, numbers: Tensor) -> None:
        """Have what :meth:`known` gave."""
        self.clear()
        if len(numbers):
            self._numbers[-len(numbers) :] = numbers.to(self._numbers)

    def clear(self) -> None:
        self._numbers.fill_(torch.nan)
