"""How far the network has grown: the stage, and the images seen in it (Algorithm 1 of the CF-EBM paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from models.systems.cfebm.config import Config, StageConfig, growth_iterations


def rate(config: Config, stage: StageConfig, iteration: int) -> float:
    """The learning rate: the stage's in the growth, then falling linearly to ``lr_final`` times it; so does that of
    energy matching over its iterations.
    """
    t = config.training
    if iteration < config.matched:
        return t.matching_rate * _falling(t.lr_final, iteration, 0, config.matched)
    grown = config.matched + growth_iterations(config.stages)
    return stage.learning_rate * _falling(t.lr_final, iteration, grown, t.iterations)


def _falling(final: float, iteration: int, begin: int, end: int) -> float:
    after = (iteration - begin) / (end - begin) if end > begin else 0.0
    return 1 - (1 - final) * min(1.0, max(0.0, after))


class Growth(NamedTuple):
    """A place in the growth."""

    stage: int = 0
    seen: int = 0

    def alpha(self, stages: Sequence[StageConfig]) -> float:
        """How far the newest block is faded in: min(1, (seen + 1) / phase); the first stage has nothing to fade."""
        return 1.0 if self.stage == 0 else min(1.0, (self.seen + 1) / stages[self.stage].phase)

    def after(self, images: int, stages: Sequence[StageConfig]) -> Growth:
        """The place after an update with so many images: a stage ends past twice its phase, the last one never."""
        seen = self.seen + images
        if seen > 2 * stages[self.stage].phase and self.stage + 1 < len(stages):
            return Growth(self.stage + 1, 0)
        return Growth(self.stage, seen)
