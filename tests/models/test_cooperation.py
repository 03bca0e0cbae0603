"""Cooperative learning where its outcome is known: two classes of numbers, learned by Algorithm 1 with the real kernel.

Y ~ N(-1, .3^2) and N(1, .6^2); f = theta_1 y - theta_2 y^2 / 2, g = a + b X, plain gradient steps. Without
noise the solver goes flat and the initializer carries the distribution; with noise of temperature 1 the regression
averages it away.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from models.core.loop import Loop, Rows, Task, run
from models.core.noise import mix
from models.samplers.langevin import langevin

_ITERATIONS, _BATCH, _STEPS, _ETA = 3_000, 512, 10, 0.1
_MEAN, _STD = torch.tensor([[-1.0], [1.0]]).repeat(2, 1), torch.tensor([[0.3], [0.6]]).repeat(2, 1)
_TAU = torch.tensor([0.0, 0.0, math.sqrt(2 * _ETA), math.sqrt(2 * _ETA)]).reshape(4, 1, 1, 1)
"""Four rows: both classes without noise, then both with it."""


class Outcome(NamedTuple):
    """Means over the last thousand iterations, one entry a row."""

    a: Tensor
    b: Tensor
    theta: Tensor
    move: Tensor


def value(rows: Rows) -> Tensor:
    theta = rows["theta"]
    y = rows["y"].flatten(1)
    return (theta[:, :1] * y - theta[:, 1:] * y.square() / 2).sum(1)


@pytest.fixture(scope="module")
def found() -> Outcome:
    """A row is a class with or without noise; its image is the whole batch of numbers, and f is the sum over them."""
    generator = torch.Generator().manual_seed(0)
    step, one = langevin(value), torch.ones(4, 1, 1, 1)
    theta, a, b = torch.zeros(4, 2), torch.zeros(4, 1), torch.full((4, 1), 0.1)
    sums = [torch.zeros(4, 1), torch.zeros(4, 1), torch.zeros(4, 2), torch.zeros(4)]

    def refined(rows: Rows, iteration: int) -> Task[Rows]:
        return (yield Loop(step, rows, _STEPS, [mix(row, iteration) for row in range(4)]))

    for iteration in range(_ITERATIONS):
        observed = _MEAN + _STD * torch.randn(4, _BATCH, generator=generator)
        x = torch.randn(4, _BATCH, generator=generator)
        proposal = a + b * x
        rows = {"y": proposal[:, None, None], "theta": theta, "eta": one * _ETA, "rho": one * 0, "tau": _TAU}
        ends = run(refined(rows, iteration))["y"][:, 0, 0]
        gap = [observed - ends, -(observed.square() - ends.square()) / 2]
        theta = theta + 0.02 * torch.cat([part.mean(1, keepdim=True) for part in gap], 1)
        residual = ends - proposal
        a = a + 0.1 * residual.mean(1, keepdim=True)
        b = b + 0.1 * (residual * x).mean(1, keepdim=True)
        if iteration >= _ITERATIONS - 1000:
            for total, now in zip(sums, (a, b, theta, residual.abs().mean(1)), strict=True):
                total += now / 1000
    return Outcome(sums[0].flatten(), sums[1].flatten(), sums[2], sums[3])


def test_the_initializer_carries_the_distribution_and_the_solver_goes_flat(found: Outcome) -> None:
    assert found.a[:2].tolist() == pytest.approx([-1.0, 1.0], abs=0.02)
    assert found.b[:2].abs().tolist() == pytest.approx([0.29, 0.60], abs=0.03)
    assert float(found.theta[:2].abs().max()) < 0.02
    assert float(found.move[:2].max()) < 0.02


def test_with_noise_the_initializer_collapses_to_a_point(found: Outcome) -> None:
    assert found.b[2:].tolist() == pytest.approx([0, 0], abs=0.02)
