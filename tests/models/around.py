"""A trainer with something put around its steps, for tests of what a training does then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from models.systems.base import Trainer

Step: TypeAlias = Callable[[int, float, int], dict[str, float]]


class Around:
    """All that a trainer does, and notes of the states that it was sent back to.

    Args:
        trainer: the real one.
        step: (the real step, iteration, scale of the rates, salt) -> metrics.
    """

    def __init__(self, trainer: Trainer, step: Callable[[Step, int, float, int], dict[str, float]]) -> None:
        self._trainer, self._around = trainer, step
        self.loaded: list[Mapping[str, Tensor]] = []

    def step(self, iteration: int, lr_scale: float, salt: int) -> dict[str, float]:
        return self._around(self._trainer.step, iteration, lr_scale, salt)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.loaded.append(state)
        self._trainer.load_state(state)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)
