"""Annealed importance sampling against densities whose log Z is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache

import pytest
import torch
from torch import Tensor

from models.core.loop import Rows, run
from models.core.noise import Key, Noise, row_seeds
from models.evaluation.ais import Annealed, AnnealedSampler, Ladder, joined, linear
from models.evaluation.likelihood import LogZ, effective_size, log_mean_exp
from models.samplers.spaces import Box, Gaussian, Space

D, SIGMA, LOG_Z = 10, 0.2, -6.905
"""f = -|x|^2 / (2 * .2^2) on [-1, 1]^10: log Z = 10 log(.2 sqrt(2 pi)), what the box cuts off is 6e-6."""


def bell(rows: Rows) -> Tensor:
    return -rows["x"].flatten(1).square().sum(1) / (2 * SIGMA**2)


@dataclass(frozen=True)
class Fence:
    """The box whose walls do not reflect: who ends a move outside is rejected."""

    box: Box = field(default_factory=Box)

    def draw(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        return self.box.draw(shape, noise)

    def log_density(self, x: Tensor) -> Tensor:
        return torch.where((x.abs() <= 1).all(1), self.box.log_density(x), -math.inf)

    def force(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def drift(self, q: Tensor, v: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        return q + eps * v, v


@cache
def both_ways(space: Space, temperatures: int, leapfrogs: int, eps: float, n: int) -> LogZ:
    """The box Gaussian with an exact start of the reverse direction."""
    sampler, ladder = AnnealedSampler(bell, space, (D,), 0.5), linear(temperatures, eps, leapfrogs)
    exact = torch.randn(n, D, generator=torch.Generator().manual_seed(0)) * SIGMA
    forward = run(sampler.forward(ladder, row_seeds(1, n)))
    return LogZ(D * math.log(2), forward, run(sampler.reverse(ladder, exact, row_seeds(2, n))))


def holds(result: LogZ) -> None:
    truth = D * math.log(SIGMA * math.sqrt(2 * math.pi))
    assert truth == pytest.approx(LOG_Z, abs=5e-4)
    assert result.lower.value <= result.estimate
    lower, upper = result.lower, result.upper
    assert lower.value - 3 * lower.se <= truth <= upper.value + 3 * upper.se
    assert result.forward.divergent == result.reverse.divergent == 0


def test_the_box_gaussian_is_bracketed_ever_closer() -> None:
    """HMC, 10 leapfrogs of .05. Walls that reject would give -8.95 and -5.52 at K = 30, -7.29 and -6.65 at K = 300."""
    few, many = both_ways(Box(), 30, 10, 0.05, 128), both_ways(Box(), 300, 10, 0.05, 64)
    holds(few)
    holds(many)
    assert few.lower.value == pytest.approx(-7.7, abs=0.3)
    assert few.upper.value == pytest.approx(-6.23, abs=0.3)
    assert many.lower.value == pytest.approx(-6.98, abs=0.12)
    assert many.upper.value == pytest.approx(-6.84, abs=0.12)
    assert many.estimate == pytest.approx(LOG_Z, abs=0.1)
    assert few.upper.value - few.lower.value > 5 * (many.upper.value - many.lower.value)
    assert bool((many.forward.acceptance > 0.95).all())


def test_walls_that_reject_give_the_published_figures() -> None:
    """Acceptance about .86, since moves near b = 0 leave the box; the bounds are wider than with walls that reflect."""
    result = both_ways(Fence(), 30, 10, 0.05, 128)
    assert result.forward.acceptance.mean().item() == pytest.approx(0.86, abs=0.02)
    assert result.forward.acceptance[0] < 0.25
    assert result.lower.value == pytest.approx(-8.95, abs=0.4)
    assert result.upper.value == pytest.approx(-5.52, abs=0.3)
    reflecting = both_ways(Box(), 30, 10, 0.05, 128)
    assert result.upper.value - result.lower.value > 1.5 * (reflecting.upper.value - reflecting.lower.value)


def test_one_leapfrog_a_move_is_mala() -> None:
    result = both_ways(Box(), 30, 1, 0.1, 128)
    holds(result)
    assert result.lower.value == pytest.approx(-17.2, abs=1)
    assert result.upper.value == pytest.approx(-1.67, abs=0.7)  # its standard error is 0.2


def test_one_temperature_is_simple_importance_sampling() -> None:
    seeds = row_seeds(5, 200)
    sampler = AnnealedSampler(bell, Box(), (D,), 0.5)
    weights = run(sampler.forward(linear(1, 0.05), seeds)).log_weights
    drawn = Box().draw((D,), Noise([Key(seed, 0, 0) for seed in seeds]))
    assert torch.equal(weights, bell({"x": drawn}).double())
    back = run(sampler.reverse(linear(1, 1e-9), drawn, seeds)).log_weights  # too short to move at all
    torch.testing.assert_close(back, weights)


@pytest.mark.parametrize(("temperatures", "moves"), [(60, 1), (30, 2)])
def test_the_evidence_of_a_linear_observation(temperatures: int, moves: int) -> None:
    """y = w.z + noise with a normal prior, w = (.3, -1.2), s = .05, y = .7: log N(.7; 0, 1.58) = -1.3027."""
    w, s, y, leapfrogs, calls = torch.tensor([0.3, -1.2]), 0.05, 0.7, 7, 0

    def value(rows: Rows) -> Tensor:
        nonlocal calls
        calls += 1
        return -(y - rows["x"] @ w).square() / (2 * s)

    shape = torch.linspace(-4, 4, temperatures + 1, dtype=torch.float64).sigmoid()
    b = (shape - shape[0]) / (shape[-1] - shape[0])
    ladder = Ladder(b, torch.full((temperatures,), 0.15, dtype=torch.float64), leapfrogs, moves)
    result = run(AnnealedSampler(value, Gaussian(), (2,), 1.0).forward(ladder, row_seeds(3, 1200)))
    assert calls == temperatures * moves * leapfrogs + 1
    estimate = log_mean_exp(result.log_weights) - math.log(2 * math.pi * s) / 2
    assert estimate == pytest.approx(-1.3027, abs=0.1)
    assert effective_size(result.log_weights) > 600
    mean = result.log_weights.softmax(0).float() @ result.ends
    torch.testing.assert_close(mean, torch.tensor([0.1329, -0.5316]), rtol=0, atol=0.2)  # 4 standard errors


def test_a_pilot_fits_the_steps_to_the_temperature() -> None:
    sampler = AnnealedSampler(bell, Box(), (D,), 0.5)
    ladder = run(sampler.pilot(linear(40, 0.5, 2), row_seeds(9, 12)))
    assert ladder.eps[0] > 1.4 * ladder.eps[-1]  # a narrower target asks for shorter steps
    assert bool((ladder.eps <= 0.5).all())
    acceptance = run(sampler.forward(ladder, row_seeds(4, 40))).acceptance
    assert 0.6 < acceptance.mean() < 0.95
    assert bool((acceptance.unfold(0, 8, 8).mean(1) > 0.5).all())


def test_acceptance_is_told_in_order_of_temperature_both_ways() -> None:
    result = both_ways(Fence(), 30, 10, 0.05, 128)
    for direction in (result.forward, result.reverse):
        assert direction.acceptance.shape == (30,)
        assert direction.acceptance[:5].mean() < 0.7 < 0.95 < direction.acceptance[-5:].mean()


def test_parts_are_joined_by_their_numbers_of_chains() -> None:
    parts = [
        Annealed(torch.full((n,), float(n)), torch.zeros(n, 2), torch.tensor([float(n)]).double(), n) for n in (1, 3)
    ]
    whole = joined(parts)
    assert whole.log_weights.tolist() == [1, 3, 3, 3]
    assert whole.ends.shape == (4, 2)
    assert whole.acceptance.item() == 2.5
    assert whole.divergent == 4


@pytest.mark.parametrize(
    ("b", "eps", "message"),
    [
        ([0, 0.5, 0.4, 1], [0.1] * 3, "increase from 0 to 1"),
        ([0, 0.5], [0.1], "increase from 0 to 1"),
        ([0.1, 1], [0.1], "increase from 0 to 1"),
        ([0], [], "at least 1"),
        ([0, 1], [0.1, 0.1], "one a temperature"),
        ([0, 1], [0.0], "must be positive"),
    ],
)
def test_a_ladder_that_is_none_is_refused(b: list[float], eps: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ladder(torch.tensor(b, dtype=torch.float64), torch.tensor(eps, dtype=torch.float64))
    with pytest.raises(ValueError, match="at least 1"):
        linear(3, 0.1, leapfrogs=0)
