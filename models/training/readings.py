"""What is measured in a training, left where it was computed: to look at a number is to wait for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

import torch
from torch import Tensor

EVERY = 25
"""Iterations between two looks: as many as between two lines of the log."""

Figures: TypeAlias = dict[str, Tensor | float]
"""What is measured in an iteration, by name: tensors ``[]``, and numbers that the host knows."""


def due(device: torch.device, iteration: int, iterations: int) -> bool:
    """Whether an iteration is one to look at: on a CPU, where it costs nothing, each; elsewhere some, and the last."""
    done = iteration + 1
    return device.type == "cpu" or done % EVERY == 0 or done == iterations


@final
class Readings:
    """The figures of iterations until they are looked at together, in one read. Each is judged then, however late.

    Args:
        device: where they are computed.
        iterations: of the training.
        objection: (iteration, its figures) -> why the training must go back, or None; it may add to the figures.

    Attributes:
        trouble: the first objection since :meth:`clear`.
    """

    def __init__(
        self,
        device: torch.device,
        iterations: int,
        objection: Callable[[int, dict[str, float]], str | None],
    ) -> None:
        self._device, self._iterations, self._objection = device, iterations, objection
        self._held: list[tuple[int, dict[str, float], list[str], Tensor]] = []
        self.trouble: str | None = None

    def hold(self, iteration: int, figures: Figures) -> None:
        """Keep the figures of an iteration."""
        there = {name: value for name, value in figures.items() if isinstance(value, Tensor)}
        known = {name: value for name, value in figures.items() if not isinstance(value, Tensor)}
        values = torch.stack([value.detach().double() for value in there.values()])
        self._held.append((iteration, known, list(there), values))

    def due(self, iteration: int) -> bool:
        """Whether an iteration is one to look at."""
        return due(self._device, iteration, self._iterations)

    def read(self) -> dict[str, float]:
        """Look at all that is held; gives the figures of the newest iteration, and none where nothing is held."""
        held, self._held = self._held, []
        values = iter(torch.cat([values for *_, values in held]).tolist() if held else ())
        metrics: dict[str, float] = {}
        for iteration, known, names, _ in held:
            metrics = {**known, **{name: next(values) for name in names}}
            self.trouble = self.trouble or self._objection(iteration, metrics)
        return metrics

    def clear(self) -> None:
        """Forget all: the training has gone to another state."""
        self._held, self.trouble = [], None
