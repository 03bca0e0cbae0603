"""Presets of CF-EBM: the sizes of the paper, and small ones for a CPU.

The paper's stages, phases and rates are those of section 4 and appendix A, with the phases of the authors' runs, since
the printed numbers of images a stage are ten times too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from models.systems.cfebm.config import (
    GenerationConfig,
    GuardConfig,
    NetworkConfig,
    SamplerConfig,
    StageConfig,
    TrainingConfig,
    TranslationConfig,
    growth_iterations,
)

_BATCH = {8: 256, 16: 128, 32: 64, 64: 64, 128: 32}
_RATE = {8: 1e-3, 16: 1e-3, 32: 1e-3, 64: 1.2e-3, 128: 1.5e-3}
_STEPS = {8: 15, 16: 30, 32: 50, 64: 50, 128: 60, 256: 60, 512: 60}


def _stages(sizes: Sequence[int], phase: int, *, chained: bool) -> tuple[StageConfig, ...]:
    return tuple(
        StageConfig(
            size=size,
            steps=15 if chained else _STEPS[size],
            learning_rate=_RATE.get(size, 2e-3),
            batch_size=_BATCH.get(size, 16),
            phase=phase,
        )
        for size in sizes
    )


def _paper(
    sizes: Sequence[int],
    c: int,
    phase: int,
    *,
    chained: bool,
    channels: Literal[1, 3] = 3,
    image_size: int | None = None,
    s0: float | None = None,
    s1: float = 0.0,
    flip: bool = True,
    data_noise: float = 0.0,
) -> GenerationConfig:
    stages = _stages(sizes, phase, chained=chained)
    noise = s0 if s0 is not None else (0.015 if chained else 0.02)
    return GenerationConfig(
        channels=channels,
        image_size=image_size or sizes[-1],
        growth="chained" if chained else "single",
        stages=stages,
        network=NetworkConfig(c=c, full_below=32),
        sampler=SamplerConfig(s0=noise, s1=s1),
        training=TrainingConfig(
            # The growth, and as long again at full size.
            iterations=growth_iterations(stages) + 2 * phase // stages[-1].batch_size,
            flip=flip,
            data_noise=data_noise,
        ),
    )


def _small(
    phases: Sequence[tuple[int, int, int, float]],
    iterations: int,
    *,
    channels: Literal[1, 3],
    image_size: int,
    flip: bool,
) -> GenerationConfig:
    """Chained, 15 steps a stage; ``phases``: (size, batch, phase, rate)."""
    stages = tuple(
        StageConfig(size=size, steps=15, batch_size=batch, phase=phase, learning_rate=rate)
        for size, batch, phase, rate in phases
    )
    return GenerationConfig(
        channels=channels,
        image_size=image_size,
        stages=stages,
        network=NetworkConfig(c=16, full_below=8),
        sampler=SamplerConfig(),
        training=TrainingConfig(
            iterations=iterations, lr_final=0.05, data_noise=0.01, spoiled=0.5, flip=flip, precision="bf16"
        ),
    )


def _matched(size: int, steps: int, batch: int, iterations: int, *, image_size: int) -> GenerationConfig:
    """Energy matching at one size, then a contrastive phase: wider than ``small``, and without spectral norm, since the
    gradient of f must be as long as the paths.
    """
    return GenerationConfig(
        channels=1,
        image_size=image_size,
        stages=(StageConfig(size=size, steps=steps, batch_size=batch, phase=1, learning_rate=1e-4),),
        network=NetworkConfig(c=32, full_below=8, spectral=False),
        sampler=SamplerConfig(lr=1 / 40, s0=0.01),
        training=TrainingConfig(
            iterations=iterations,
            lr_final=0.1,
            data_noise=0.01,
            spoiled=0.5,
            outlined=True,
            matching=0.65,
            contrast=0.01,
            outliers=1.0,
            ema=0.999,
            # f spans about the number of pixels, and so do its gaps.
            guards=GuardConfig(value=5_000.0, gap=500.0),
            precision="bf16",
        ),
    )


def _translation(
    size: int,
    steps: int,
    c: int,
    full_below: int,
    rate: float,
    iterations: int,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    flip: bool = False,
    lr_final: float = 1.0,
) -> TranslationConfig:
    return TranslationConfig(
        channels=3,
        image_size=size,
        border=1.0,
        growth="single",
        stages=(StageConfig(size=size, steps=steps, batch_size=16, phase=1, learning_rate=rate),),
        network=NetworkConfig(c=c, full_below=full_below),
        sampler=SamplerConfig(s0=0.0),
        training=TrainingConfig(
            iterations=iterations, lr_final=lr_final, data_noise=0.01, flip=flip, precision=precision
        ),
    )


_SMALL_STAGES = ((8, 128, 12_000, 1e-3), (16, 64, 12_000, 1e-3), (32, 32, 12_000, 5e-4))

GENERATION_PRESETS: dict[str, GenerationConfig] = {
    "small": _small(
        _SMALL_STAGES,
        3_000,
        channels=1,
        image_size=28,
        flip=True,
    ),
    "small-matched": _matched(32, 45, 64, 3_000, image_size=28),
    "small-digits": _small(
        _SMALL_STAGES,
        2_800,
        channels=1,
        image_size=28,
        flip=False,
    ),
    "tiny": GenerationConfig(
        channels=1,
        image_size=16,
        stages=(
            StageConfig(size=8, steps=5, batch_size=16, phase=400, learning_rate=1e-3),
            StageConfig(size=16, steps=5, batch_size=16, phase=400, learning_rate=1e-3),
        ),
        network=NetworkConfig(c=8, full_below=8),
        sampler=SamplerConfig(),
        training=TrainingConfig(iterations=200),
    ),
    "paper-cifar10": _paper([8, 16, 32], 32, 1_200_000, chained=False),
    "paper-cifar10-chained": _paper([8, 16, 32], 32, 1_200_000, chained=True),
    "paper-imagenet32": _paper([8, 16, 32], 48, 4_000_000, chained=True),
    "paper-celeba64": _paper([8, 16, 32, 64], 32, 1_500_000, chained=True, data_noise=0.01),
    "paper-celebahq-256": _paper([8, 16, 32, 64, 128, 256], 32, 800_000, chained=True),
    "paper-celebahq-512": _paper([8, 16, 32, 64, 128, 256, 512], 48, 800_000, chained=True),
    "paper-mnist": _paper(
        [8, 16, 32],
        16,
        150_000,
        chained=False,
        channels=1,
        image_size=28,
        s0=0.01,
        s1=0.01,
        flip=False,
        data_noise=0.03,
    ),
}

TRANSLATION_PRESETS: dict[str, TranslationConfig] = {
    "small-translate": _translation(32, 20, 16, 8, 2e-4, 900, precision="bf16", lr_final=0.05),
    "paper-i2i-256": _translation(256, 50, 16, 32, 2e-3, 100_000, flip=True),
}
