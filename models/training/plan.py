"""What a training is given, what it tells, and what of its state is not tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from models.data.kinds import Data


@dataclass(frozen=True)
class Event:
    """Something to tell: ``metrics`` (numbers), ``sample`` (a picture's path) or ``warning`` (a message)."""

    kind: Literal["metrics", "sample", "warning"]
    iteration: int
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to train.

    Args:
        system: a name of the registry.
        config: the system's configuration, fitted to the data; its ``training.iterations`` is the length.
        data: the training images, of the kind that the configuration learns from.
        name: the name of the model.
        seed: of everything random.
        device: where to train.
        command: how a person repeats this training; goes onto the card.
        facts: what else the card should tell about the data (licence, notice).
        features: in which drawn images are compared with real ones to find the best state; None keeps the last one.
    """

    system: str
    config: Any
    data: Data
    name: str
    seed: int
    device: torch.device
    command: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    features: Callable[[Tensor], Tensor] | None = None


@dataclass
class Progress:
    """The part of a training's state that is not tensors."""

    iteration: int = 0
    seconds: float = 0.0
    rollbacks: int = 0
    stage: int = 0
    stage_rollbacks: int = 0
    best: float | None = None
    best_iteration: int | None = None
    ended: bool = False

    @property
    def lr_scale(self) -> float:
        """Rates are halved by each roll-back, for the rest of the stage."""
        return float(0.5**self.stage_rollbacks)
