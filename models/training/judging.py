"""How good a model in training is: the distance of what it draws to real images."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from models.metrics.kid import kid
from models.systems.base import Trainer


@final
class Judge:
    """Compares drawn images with real ones, of which it keeps the features.

    Args:
        features: images -> ``[n, d]``.
        images: the data, uint8.
        n: images that a judgement looks at, drawn and real each.
    """

    def __init__(self, features: Callable[[Tensor], Tensor], images: Tensor, n: int) -> None:
        self._features, self._n = features, n
        # Drawn at random: a set may be in the order of its classes.
        self._chosen = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]]
        self._real: tuple[int, Tensor] | None = None

    def distance(self, trainer: Trainer) -> float | None:
        """The kernel distance (KID) at the size of the stage; None if the trainer can't draw now.

        Raises:
            RowsError: a chain has diverged.
        """
        drawn = trainer.draw(self._n)
        if drawn is None:
            return None
        if self._real is None or self._real[0] != trainer.stage:
            self._real = trainer.stage, self._features(trainer.reference(self._chosen))
        return kid(self._features(drawn), self._real[1])
