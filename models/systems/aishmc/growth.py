"""How far the networks have grown: a function of the number of images seen, and of nothing else."""

from __future__ import annotations

import math
from typing import NamedTuple, Self

from models.systems.aishmc.config import Config, LevelConfig


class Growth(NamedTuple):
    """A place in the growth.

    Args:
        level: its number, from 0.
        seen: images since it began.
        before: images of all levels before.
    """

    level: int = 0
    seen: int = 0
    before: int = 0

    def alpha(self, config: Config) -> float:
        """How far the newest block is faded in; it rises from 0 to 1 over the level's ``fade``."""
        fade = 1000 * config.levels[self.level].fade
        return min(1.0, self.seen / fade) if fade else 1.0

    @property
    def kimg(self) -> float:
        """Thousands of images in all."""
        return (self.before + self.seen) / 1000

    def after(self, images: int, config: Config) -> Growth:
        """The place after an update with so many images: a level ends with its ``stable``, the last one never."""
        moved = self._replace(seen=self.seen + images)
        over = moved.seen >= _length(config.levels[self.level]) and self.level + 1 < len(config.levels)
        return moved.next() if over else moved

    def next(self) -> Self:
        """The beginning of the next level."""
        return type(self)(self.level + 1, 0, self.before + self.seen)


def _length(level: LevelConfig) -> int:
    return round(1000 * (level.fade + level.stable))


def rate(config: Config, kimg: float) -> float:
    """The learning rate: over ``ramp`` thousands of images times exp(-5 (1 - kimg / ramp)^2)."""
    ramp = config.training.ramp
    part = min(1.0, kimg / ramp) if ramp else 1.0
    return config.training.learning_rate * math.exp(-5 * (1 - part) ** 2)


def decay(config: Config, kimg: float) -> float:
    """Of the average."""
    return config.training.ema_start if kimg < config.training.ema_warm else config.training.ema
