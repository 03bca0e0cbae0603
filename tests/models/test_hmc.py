"""Hamiltonian Monte Carlo against closed forms: the flow, the walls, what the moves keep, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from models.core.loop import Loop, Rows, run
from models.core.noise import Key, Noise, row_seeds
from models.samplers.annealing import tune
from models.samplers.hmc import Hmc, TargetValue
from models.samplers.spaces import Box, Gaussian, Space


@dataclass
class Given:
    """Noise that a test has chosen."""

    v: Tensor
    u: float = 0.0

    def normal(self, *shape: int) -> Tensor:
        return self.v

    def uniform(self) -> Tensor:
        return torch.full((len(self.v),), self.u)


def flat(rows: Rows) -> Tensor:
    return 0 * rows["x"].sum(1)


def bell(rows: Rows) -> Tensor:
    return -rows["x"].square().sum(1) / 2


def tilt(rows: Rows) -> Tensor:
    """f = 2 x in each coordinate: on [-1, 1] the mean is coth(2) - 1/2 = .5373."""
    return 2 * rows["x"].sum(1)


def state(x: Tensor, eps: float = 0.1, leapfrogs: int = 5, b: float = 1.0) -> Rows:
    n = len(x)
    number = torch.ones(n, dtype=torch.float64)
    return {"x": x, "b": number * b, "eps": number * eps, "leapfrogs": torch.full((n,), leapfrogs)}


def begin(chain: Hmc, rows: Rows) -> Rows:
    return chain.start(rows, torch.zeros(len(rows["x"]), dtype=torch.int64), Noise([]))


def advance(chain: Hmc, rows: Rows, seeds: Sequence[int], first: int, last: int) -> Rows:
    for step in range(first, last):
        noise = Noise([Key(seed, 0, step) for seed in seeds])
        rows = chain.step(rows, torch.full((len(seeds),), step), noise)
    return rows


def move(chain: Hmc, rows: Rows, v: Tensor, u: float = 0.0) -> Rows:
    """One move with a velocity that is given."""
    for step in range(int(rows["leapfrogs"][0])):
        rows = chain.step(rows, torch.full((len(v),), step), cast(Noise, Given(v, u)))
    return rows


def chained(
    value: TargetValue, space: Space, x: Tensor, moves: int, eps: float, leapfrogs: int, b: float = 1.0
) -> Rows:
    """Rows after so many moves."""
    chain, seeds = Hmc(value, space), row_seeds(3, len(x))

    def task():  # type: ignore[no-untyped-def]
        rows = yield Loop(chain.start, state(x, eps, leapfrogs, b), 1, seeds)
        return (yield Loop(chain.step, rows, moves * leapfrogs, seeds))

    return run(task())


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_flow_of_a_parabola_keeps_its_shadow_energy() -> None:
    """On U = z^2 / 2 leapfrog conserves v^2 + (1 - eps^2 / 4) z^2."""
    z, v, eps = random(8, 1).double(), random(8, 1, seed=1).double(), 0.3
    chain = Hmc(flat, Gaussian())
    rows = move(chain, begin(chain, state(z, eps, leapfrogs=1000)), v)
    before, after = (b.square() + (1 - eps**2 / 4) * a.square() for a, b in ((z, v), (rows["q"], rows["v"])))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("space", [Box(), Gaussian()])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_the_flow_goes_back_when_the_velocity_is_turned(space: Space, dtype: torch.dtype, tolerance: float) -> None:
    """In the box too, where most of these paths meet walls."""
    x, v = random(64, 3).tanh().to(dtype), random(64, 3, seed=1).to(dtype)
    chain = Hmc(bell, space)
    there = move(chain, begin(chain, state(x, 0.1, leapfrogs=20)), v)
    assert bool((there["q"] != x).all())
    back = move(chain, begin(chain, state(there["q"], 0.1, leapfrogs=20)), -there["v"])
    torch.testing.assert_close(back["q"], x, rtol=0, atol=tolerance)
    torch.testing.assert_close(back["v"], -v, rtol=0, atol=tolerance)


def test_half_the_step_size_errs_a_quarter() -> None:
    def quartic(rows: Rows) -> Tensor:
        return -rows["x"].pow(4).sum(1)

    x, v = random(50, 2).double(), random(50, 2, seed=1).double()
    errors = []
    for eps, leapfrogs in ((0.02, 10), (0.01, 20), (0.005, 40)):
        chain = Hmc(quartic, Gaussian())
        rows = move(chain, begin(chain, state(x, eps, leapfrogs)), v)
        energies = [
            w.square().sum(1) / 2 + a.square().sum(1) / 2 + a.pow(4).sum(1) for a, w in ((x, v), (rows["q"], rows["v"]))
        ]
        errors.append((energies[1] - energies[0]).abs().mean().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(
    ("start", "v", "end", "turned"),
    [(0.5, 0.25, 0.75, 1), (0.5, 1.0, 0.5, -1), (0.5, 3.0, -0.5, 1), (-0.5, -1.0, -0.5, -1), (0.5, 4.0, 0.5, 1)],
)
def test_walls_reflect(start: float, v: float, end: float, turned: int) -> None:
    at, velocity = Box().drift(torch.tensor([[start]]), torch.tensor([[v]]), torch.ones(1, 1))
    assert at.item() == end
    assert velocity.item() == turned * v


def test_spaces_are_normalised() -> None:
    at = torch.full((1, 1), 0.5)
    assert Box(-1, 3).log_density(at).item() == pytest.approx(-math.log(4))
    assert Box(0, 1).log_volume(784) == 0
    assert Box().log_volume(784) == 784 * math.log(2)
    assert Gaussian().log_density(at).exp().item() == pytest.approx(0.3520653, abs=1e-6)
    with pytest.raises(ValueError, match="low < high"):
        Box(1, 1)


@pytest.mark.parametrize(("b", "mean", "variance"), [(0.0, 0.0, 1 / 3), (1.0, 0.537315, 0.173972)])
def test_a_density_in_the_box_is_kept_and_found(b: float, mean: float, variance: float) -> None:
    """Uniform, and tilted by e^{2x}: from exact samples, and from a corner; paths are as long as half the box."""
    u = torch.rand(1_200, 4, generator=torch.Generator().manual_seed(0))
    exact = 2 * u - 1 if b == 0 else (math.exp(-2) + u * (math.exp(2) - math.exp(-2))).log() / 2
    for x, moves in ((exact, 3), (torch.ones(1_200, 4), 15)):
        rows = chained(tilt, Box(), x, moves, eps=0.1, leapfrogs=10, b=b)
        assert bool((rows["x"].abs() <= 1).all())
        assert rows["x"].mean().item() == pytest.approx(mean, abs=0.02)
        assert rows["x"].var().item() == pytest.approx(variance, abs=0.01)
        assert rows["accepted"].double().mean() / moves > (0.8 if b else 0.999)  # walls alone cost nothing
        cumulative = (rows["x"].flatten()[:, None] < torch.linspace(-0.8, 0.8, 9)).double().mean(0)
        marks = torch.linspace(-0.8, 0.8, 9).double()
        share = (marks + 1) / 2 if b == 0 else ((2 * marks).exp() - math.exp(-2)) / (math.exp(2) - math.exp(-2))
        torch.testing.assert_close(cumulative, share, rtol=0, atol=0.02)


def test_the_posterior_of_a_linear_observation_is_kept() -> None:
    """y = w z + noise, w = (.3, -1.2), s = .05, y = .7: a narrow Gaussian, known in closed form."""
    w, s, y = torch.tensor([0.3, -1.2]), 0.05, 0.7

    def value(rows: Rows) -> Tensor:
        return -(y - rows["x"] @ w).square() / (2 * s)

    mean, covariance = torch.tensor([0.1329, -0.5316]), torch.tensor([[0.9430, 0.2278], [0.2278, 0.0886]])
    root = torch.linalg.cholesky(covariance)
    exact = mean + random(800, 2) @ root.T
    for start, moves in ((exact, 3), (torch.zeros(800, 2), 20)):
        rows = chained(value, Gaussian(), start, moves, eps=0.15, leapfrogs=10)
        torch.testing.assert_close(rows["x"].mean(0), mean, rtol=0, atol=0.09)
        torch.testing.assert_close(rows["x"].T.cov(), covariance, rtol=0, atol=0.1)
        assert rows["accepted"].double().mean() / moves > 0.9


def test_without_the_metropolis_rule_the_moments_would_be_others() -> None:
    """eps = 1.6 on a unit Gaussian: the flow's own density has variance 1 / (1 - eps^2 / 4) = 2.78."""
    rows = chained(flat, Gaussian(), random(1_000, 4), moves=20, eps=1.6, leapfrogs=3)
    assert rows["x"].var().item() == pytest.approx(1, abs=0.06)
    assert 0.4 < rows["accepted"].double().mean() / 20 < 0.95


def test_a_rejected_row_keeps_its_bits() -> None:
    chain = Hmc(bell, Gaussian())
    before = begin(chain, state(random(40, 3), eps=1.2, leapfrogs=3))
    after = move(chain, before, random(40, 3, seed=1), u=0.5)
    kept = after["accepted"] == 0
    assert 0 < int(kept.sum()) < 40
    for name in ("x", "f", "g"):
        assert torch.equal(after[name][kept], before[name][kept])
        assert not torch.equal(after[name][~kept], before[name][~kept])
    assert torch.equal(after["accepted"] == 1, after["p"] > 0.5)


@pytest.mark.parametrize(("moves", "leapfrogs"), [(1, 7), (50, 7), (4, 1)])
def test_a_chain_costs_one_gradient_and_l_more_a_move(moves: int, leapfrogs: int) -> None:
    calls = 0

    def counted(rows: Rows) -> Tensor:
        nonlocal calls
        calls += 1
        return bell(rows)

    chained(counted, Gaussian(), random(2, 3), moves, 0.1, leapfrogs)
    assert calls == moves * leapfrogs + 1


def test_the_carried_value_and_gradient_are_those_at_x() -> None:
    rows = chained(bell, Gaussian(), random(6, 3), moves=9, eps=0.9, leapfrogs=4)
    assert rows["f"].dtype == torch.float64
    torch.testing.assert_close(rows["f"], bell(rows).double())
    torch.testing.assert_close(rows["g"], -rows["x"])


def test_a_row_is_the_same_among_others() -> None:
    """Rows with other step sizes, temperatures and numbers of leapfrogs, whose moves begin at other steps."""
    chain, n = Hmc(tilt, Box()), 12
    rows = state(random(n, 4).tanh())
    rows |= {
        "eps": torch.linspace(0.05, 0.6, n).double(),
        "b": torch.linspace(0, 2, n).double(),
        "leapfrogs": torch.arange(n) % 5 + 1,
    }
    seeds = row_seeds(8, n)
    together = advance(chain, begin(chain, rows), seeds, 0, 24)
    assert together["accepted"].unique().numel() > 1
    for k in range(n):
        alone = advance(chain, begin(chain, {name: v[k : k + 1] for name, v in rows.items()}), seeds[k : k + 1], 0, 24)
        for name, v in alone.items():
            torch.testing.assert_close(v[0], together[name][k], rtol=0, atol=1e-6)


@pytest.mark.parametrize("stop", [5, 8])
def test_an_interrupted_chain_goes_on_to_the_same_bytes(stop: int) -> None:
    """Between two moves and within one, through bytes, with kernels that were built anew."""
    rows, seeds = state(random(6, 4).tanh(), eps=0.3), row_seeds(4, 6)
    chain = Hmc(tilt, Box())
    unbroken = advance(chain, begin(chain, rows), seeds, 0, 20)
    saved = save(advance(chain, begin(chain, rows), seeds, 0, stop))
    resumed = advance(Hmc(tilt, Box()), load(saved), seeds, stop, 20)
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(v, resumed[name]) for name, v in unbroken.items())


def test_a_row_that_meets_a_number_that_is_not_finite_is_rejected_and_harms_nobody() -> None:
    """f is log(1 - x): beyond 1 it is not a number."""

    def value(rows: Rows) -> Tensor:
        return (1 - rows["x"][:, 0]).log()

    x, v = torch.zeros(2, 2), torch.tensor([[40.0, 0.0], [-1.0, 0.0]])
    chain = Hmc(value, Gaussian())
    rows = move(chain, begin(chain, state(x, eps=0.1, leapfrogs=4)), v)
    assert rows["divergent"].tolist() == [1, 0]
    assert rows["accepted"].tolist() == [0, 1]
    assert torch.equal(rows["x"][0], x[0])
    assert all(bool(tensor.isfinite().all()) for tensor in rows.values())
    again = move(chain, rows, torch.tensor([[-1.0, 0.0], [-1.0, 0.0]]))
    assert again["accepted"].tolist() == [1, 2]  # its next move starts afresh


def test_an_energy_that_explodes_counts_as_divergent() -> None:
    chain = Hmc(bell, Gaussian())
    rows = move(chain, begin(chain, state(random(3, 2), eps=5.0, leapfrogs=4)), random(3, 2, seed=1))
    assert rows["divergent"].tolist() == [1, 1, 1]
    assert rows["p"].tolist() == [0, 0, 0]


def test_a_pilot_finds_the_step_size_for_the_acceptance_asked_for() -> None:
    n, leapfrogs = 32, 5
    chain, seeds = Hmc(bell, Gaussian()), row_seeds(2, n)
    tuned = tune(chain.step, 10.0)

    def task(kernel, rows, moves):  # type: ignore[no-untyped-def]
        rows = yield Loop(chain.start, rows, 1, seeds)
        return (yield Loop(kernel, rows, moves * leapfrogs, seeds))

    found = run(task(tuned, state(random(n, 50), 0.01, leapfrogs), 60))["eps"].log().mean().exp().item()
    assert 0.3 < found < 1.2
    rows = run(task(chain.step, state(random(n, 50) / math.sqrt(2), found, leapfrogs), 40))
    assert 0.65 < rows["accepted"].double().mean().item() / 40 < 0.9
    capped = run(task(tune(chain.step, 0.05), state(random(n, 50), 0.01, leapfrogs), 30))["eps"]
    assert capped.unique().tolist() == [0.05]
