"""Decoders whose posteriors are known."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.core.loop import Rows
from models.samplers.cogeneration import Cogeneration
from models.samplers.observation import Observation, whole

CPU = torch.device("cpu")


@dataclass
class Line:
    """x = w . z, one pixel."""

    w: Tensor = field(default_factory=lambda: torch.tensor([0.3, -1.2]))
    image_shape = (1, 1, 1)
    scale_invariant = False
    calls: int = 0

    @property
    def latent_shape(self) -> tuple[int]:
        return (len(self.w),)

    @property
    def condition(self) -> Rows:
        return {}

    def decode(self, z: Tensor, rows: Rows) -> Tensor:
        return (z @ self.w)[:, None, None, None]


@dataclass
class Ring:
    """x = (cos h, sin h), two pixels beside each other; h = phi - (a / 5) sin 5 phi folds the angle phi of z."""

    a: float
    latent_shape = (2,)
    image_shape = (1, 1, 2)
    scale_invariant = True

    @property
    def condition(self) -> Rows:
        return {}

    def decode(self, z: Tensor, rows: Rows) -> Tensor:
        phi = torch.atan2(z[:, 1], z[:, 0])
        h = phi - self.a / 5 * (5 * phi).sin()
        return torch.stack([h.cos(), h.sin()], 1)[:, None, None]


def kernels(decoder: Line | Ring) -> Cogeneration:
    return Cogeneration(decoder, CPU)


def line_at(y: float) -> Observation:
    return Observation(whole((1, 1, 1)), torch.full((1, 1, 1), y), torch.ones(1, 1, 1))


def second_is_zero() -> Observation:
    """x2 = 0 of two pixels; what stands for x1 is never looked at."""
    return Observation(whole((1, 1, 2)), torch.tensor([[[float("nan"), 0.0]]]), torch.tensor([[[0.0, 1.0]]]))
