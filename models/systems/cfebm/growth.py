"""How far the network has grown: the stage, and the images seen in it (Algorithm 1 of the CF-EBM paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from models.systems.cfebm.config import StageConfig


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
