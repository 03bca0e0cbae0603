"""Presets: the networks and searches of the paper, and small ones that a CPU can train.

``-literal`` presets look for latents as the authors' code for images does (the prior vanishes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from models.networks.progressive import sizes_to
from models.systems.aishmc.config import (
    Config,
    LevelConfig,
    NetworkConfig,
    SolverConfig,
    TrainingConfig,
    growth_iterations,
)

_PAPER_BATCH = {256: 14, 512: 6, 1024: 3}
"""At these sizes of CelebA-HQ; 16 else."""


def _iterations(levels: Sequence[LevelConfig], kimg: float) -> int:
    """Updates until so many thousands of images were seen, the last of them at the last level."""
    *coarser, last = levels
    before = sum(level.fade + level.stable for level in coarser)
    updates = sum(-(-round(1000 * (level.fade + level.stable)) // level.batch_size) for level in coarser)
    return max(growth_iterations(tuple(levels)), updates + round(1000 * (kimg - before) / last.batch_size))


def _paper(size: int, base: int, kimg: float, *, chains: int, ramp: float = 40.0, smaller: bool = False) -> Config:
    """800 thousand images to fade a level in, 800 more; T = 500, L = 20. sigma is that of the authors, sqrt(1/2)."""
    levels = tuple(
        LevelConfig(
            size=r,
            fade=0 if r == 4 else 800,
            stable=800,
            batch_size=_PAPER_BATCH.get(r, 16) if smaller else 16,
        )
        for r in sizes_to(size)
    )
    return Config(
        channels=3,
        image_size=size,
        network=NetworkConfig(latent=512, base=base, most=512),
        levels=levels,
        training=TrainingConfig(iterations=_iterations(levels, kimg), ramp=ramp, flip=True),
        solver=SolverConfig(temperatures=500, leapfrogs=20, chains=chains, sigma=0.5**0.5, starts=5008),
    )


def _small(
    size: int,
    kimg: float,
    *,
    channels: Literal[1, 3],
    image_size: int | None = None,
    border: float = -1.0,
    flip: bool = False,
) -> Config:
    levels = tuple(LevelConfig(size=r, fade=0 if r == 4 else 10, stable=10 if r == 4 else 15) for r in sizes_to(size))
    return Config(
        channels=channels,
        image_size=image_size or size,
        border=border,
        network=NetworkConfig(latent=64, base=512, most=64),
        levels=levels,
        training=TrainingConfig(
            iterations=_iterations(levels, kimg), ramp=4.0, ema_start=0.99, ema_warm=20.0, flip=flip
        ),
    )


_CELEBA = _paper(128, 2048, 10_000, chains=1, ramp=0.0)
_LSUN = _paper(256, 8192, 10_000, chains=5)
_CELEBA_HQ = _paper(1024, 8192, 19_000, chains=3, smaller=True)

_TINY_LEVELS = tuple(LevelConfig(size=r, fade=0 if r == 4 else 0.5, stable=0.5) for r in sizes_to(16))


def _literal(config: Config) -> Config:
    return config.model_copy(update={"solver": config.solver.model_copy(update={"target": "tempered_paper"})})


PRESETS: dict[str, Config] = {
    "paper-celeba128": _CELEBA,
    "paper-lsun256": _LSUN,
    "paper-celebahq1024": _CELEBA_HQ,
    "paper-celeba128-literal": _literal(_CELEBA),
    "paper-lsun256-literal": _literal(_LSUN),
    "paper-celebahq1024-literal": _literal(_CELEBA_HQ),
    "tiny": Config(
        channels=1,
        image_size=16,
        network=NetworkConfig(latent=32, base=256, most=32),
        levels=_TINY_LEVELS,
        training=TrainingConfig(
            iterations=_iterations(_TINY_LEVELS, 8), ramp=0.5, ema_start=0.9, ema_warm=1.0, ema=0.99
        ),
        solver=SolverConfig(temperatures=100, starts=128),
    ),
    "small-fashion32": _small(32, 125, channels=1, image_size=28),
    "small-emoji32": _small(32, 140, channels=3, border=1.0),
    "small-emoji64": _small(64, 180, channels=3, border=1.0),
    "small-nature64": _small(64, 180, channels=3, flip=True),
}
"""By name. The small ones have 0.28 million parameters in each network; ``tiny`` is to try it, in minutes."""
