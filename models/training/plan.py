"""What a training is given, what it tells, and what of its state is not tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from models.data.images import DataError
from models.data.kinds import Data
from models.systems.base import Trainer
from models.systems.registry import VARIANTS, system_of
from models.training.configuration import TrainingError
from models.training.snapshots import EVERY as SNAPSHOT_EVERY
from models.training.team import ALONE, Team


@dataclass(frozen=True)
class Event:
    """Something to tell: ``metrics`` (numbers), ``sample`` or ``figure`` (a path), or ``warning`` (a message)."""

    kind: Literal["metrics", "sample", "figure", "warning"]
    iteration: int
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to train.

    Args:
        variant: a name of the registry.
        config: its configuration, fitted to the data; its ``training.iterations`` is the length.
        data: the training images, of the kind that the configuration learns from.
        name: the name of the model.
        seed: of everything random.
        device: where to train.
        command: how a person repeats this training; goes onto the card.
        facts: what else the card should tell about the data (licence, notice).
        features: in which drawn images are compared with real ones to find the best state; None keeps the last one.
        team: the processes that train together; all have the same plan.
    """

    variant: str
    config: Any
    data: Data
    name: str
    seed: int
    device: torch.device
    command: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    features: Callable[[Tensor], Tensor] | None = None
    team: Team = ALONE

    @cached_property
    def data_sha256(self) -> str:
        """The hash of the data: what they are, wherever they lie and whatever they are called."""
        return self.data.sha256()

    def trainer(self, config: Any = None) -> Trainer:
        """A fresh training of this plan, or of the same with another configuration.

        Raises:
            TrainingError: no model can be built with these settings, or not by several processes.
            DataError: the data can't be used.
        """
        variant, shared = VARIANTS[self.variant], {}
        if self.team.size > 1:
            if variant.alone:
                raise TrainingError(f"{self.variant} is trained in one process only: {variant.alone}")
            shared["team"] = self.team
        try:
            return variant.trainer(config or self.config, self.data, self.seed, self.device, **shared)
        except DataError:
            raise
        except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, MemoryError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise TrainingError(f"no model can be built with these settings: {reason}") from error

    def identity(self) -> dict[str, Any]:
        """What a training must share with this one to be the same, as JSON."""
        config = self.config.model_dump(mode="json")
        return {"system": system_of(self.variant), "seed": self.seed, "data": self.data_sha256, "config": config}

    def described(self) -> dict[str, Any]:
        """What people want to see beside its curves, as JSON."""
        return {"model": self.name, "command": self.command, "data_name": self.data.name, **self.identity()}


@dataclass(frozen=True)
class Rhythm:
    """How often a training does what is not an iteration, in iterations, but for the saves of its state.

    Args:
        save: seconds between them: what a training that is killed has to do again.
        log: its metrics.
        sample: a sheet of samples.
        judge: the distance of drawn images to real ones.
        snapshot: a state to go back to.
        judged: images that a judgement looks at, drawn and real each.
    """

    save: float = 30.0
    log: int = 25
    sample: int = 500
    judge: int = 500
    snapshot: int = SNAPSHOT_EVERY
    judged: int = 500


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
