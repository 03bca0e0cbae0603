"""The refinement kernel against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.core.loop import Loop, Rows, run
from models.samplers.langevin import Value, ascend, langevin
from models.systems.ccoopnets.labels.config import PRESETS
from models.systems.ccoopnets.labels.networks import Solver

S = 0.016


def flat(rows: Rows) -> Tensor:
    return rows["y"].flatten(1).sum(1) * 0


def quadratic(k: float) -> Value:
    return lambda rows: -0.5 * k * rows["y"].square().flatten(1).sum(1)


def start(y: Tensor, eta: float, rho: float = 0.0, tau: float = 0.0) -> Rows:
    one = torch.ones(len(y), 1, 1, 1, dtype=y.dtype)
    return {"y": y, "eta": one * eta, "rho": one * rho, "tau": one * tau}


def chain(value: Value, rows: Rows, steps: int, seed: int = 0) -> Tensor:
    def task():  # type: ignore[no-untyped-def]
        return (yield Loop(langevin(value), rows, steps, [seed + k for k in range(len(rows["y"]))]))

    result: Tensor = run(task())["y"]
    return result


@pytest.mark.parametrize(
    ("d", "expected"),
    [
        (0.002, {10: 0.92457, 15: 0.88901, 20: 0.85482}),
        (0.0008, {8: 0.99004, 16: 0.98019}),
    ],
)
def test_the_reference_alone_shrinks_geometrically(d: float, expected: dict[int, float]) -> None:
    y = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    for steps, ratio in expected.items():
        after = chain(flat, start(y, d**2 / 2, 1 / S**2), steps)
        assert torch.allclose(after / y, torch.tensor((1 - d**2 / (2 * S**2)) ** steps, dtype=torch.float64), rtol=1e-6)
        assert after[0, 0, 0, 0].item() / 0.5 == pytest.approx(ratio, abs=5e-6)


def test_the_reference_with_noise_reaches_its_stationary_variance() -> None:
    d = 0.002
    after = chain(flat, start(torch.zeros(10, 1, 100, 100), d**2 / 2, 1 / S**2, d), 2000)
    assert after.var().item() / S**2 == pytest.approx(1 / (1 - d**2 / (4 * S**2)), rel=0.01)
    assert 1 / (1 - d**2 / (4 * S**2)) == pytest.approx(1.00392, abs=1e-5)


@pytest.mark.parametrize(("steps", "expected"), [(10, 0.14575), (15, 0.21048)])
def test_the_transient_variance_from_a_point(steps: int, expected: float) -> None:
    d = 0.002
    after = chain(flat, start(torch.zeros(10, 1, 100, 100), d**2 / 2, 1 / S**2, d), steps)
    assert after.var().item() / S**2 == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("d", "variance"), [(0.5, 1.0667), (1.0, 1.3333)])
def test_a_gaussian_is_sampled_with_the_known_bias_of_the_step(d: float, variance: float) -> None:
    after = chain(quadratic(1.0), start(torch.zeros(10, 1, 100, 100), d**2 / 2, tau=d), 100)
    assert after.var().item() == pytest.approx(variance, rel=0.01)
    assert abs(after.mean().item()) < 0.02


def test_the_largest_useful_step_lands_on_the_mode() -> None:
    y = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    after = chain(quadratic(1.0), start(y, 1.0), 1)  # d = sqrt(2)
    assert torch.equal(after, torch.zeros_like(after))


def test_only_the_scale_of_the_value_depends_on_d() -> None:
    """The trajectory under (2/d^2) h with eta = d^2/2 is that under h with eta = 1."""
    torch.manual_seed(0)
    solver = Solver(PRESETS["small"]).requires_grad_(False)
    y = torch.rand(4, 1, 28, 28) * 2 - 1
    c = torch.eye(10)[:4]
    d = 0.002
    scaled = chain(lambda rows: (2 / d**2) * solver(rows["y"], c), start(y, d**2 / 2), 5)
    plain = chain(lambda rows: solver(rows["y"], c), start(y, 1.0), 5)
    assert (plain - y).abs().max() > 0.01
    assert (scaled - plain).abs().max() <= 1e-5


def test_rows_with_different_settings_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    solver = Solver(PRESETS["small"]).requires_grad_(False)
    kernel = langevin(lambda rows: solver(rows["y"], rows["c"]))
    n = 8
    ramp = torch.linspace(0.2, 1.5, n).reshape(n, 1, 1, 1)
    rows = {
        "y": torch.rand(n, 1, 28, 28) * 2 - 1,
        "c": torch.eye(10)[:n],
        "eta": ramp,
        "rho": ramp * 0.01,
        "tau": (ramp - 0.8).clamp(0, 0.1),
        "mask": (torch.rand(n, 1, 28, 28) > ramp / 2).float(),
    }

    def task(rows: Rows, seeds: list[int]):  # type: ignore[no-untyped-def]
        return (yield Loop(kernel, rows, 10, seeds))

    together = run(task(rows, list(range(n))))["y"]
    for k in range(n):
        alone = run(task({name: v[k : k + 1] for name, v in rows.items()}, [k]))["y"]
        assert (alone[0] - together[k]).abs().max() <= 1e-5
    assert (together - rows["y"]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("eta", "k", "decays"), [(0.5, 1.0, True), (1.9, 1.0, True), (2.1, 1.0, False), (0.1, 25, False)]
)
def test_a_quadratic_is_stable_up_to_eta_times_k_of_two(eta: float, k: float, decays: bool) -> None:
    y = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    after = chain(quadratic(k), start(y, eta), 30).item()
    assert after == pytest.approx((1 - eta * k) ** 30, rel=1e-6)
    assert (abs(after) < 1) == decays


def test_the_posterior_of_a_linear_initializer() -> None:
    """g(X) = X, Y = 1, sigma = .3, s = .1: mode, variance and rate of the chain over the latent (eq. 19)."""
    sigma, s = 0.3, 0.1

    def value(rows: Rows) -> Tensor:
        x = rows["y"]
        return (-(1 - x).square() / (2 * sigma**2) - x.square() / 2).flatten(1).sum(1)

    precision = 1 + 1 / sigma**2
    assert precision == pytest.approx(12.1111, abs=1e-4)
    mode = chain(value, start(torch.zeros(1, 1, 1, 1, dtype=torch.float64), s**2 / 2), 800).item()
    assert mode == pytest.approx(0.917431, abs=1e-6)
    point = torch.full((1, 1, 1, 1), 2.0, dtype=torch.float64)
    rate = (chain(value, start(point, s**2 / 2), 1).item() - mode) / (2.0 - mode)
    assert rate == pytest.approx(0.939444, abs=1e-6)
    samples = chain(value, start(torch.zeros(10, 1, 100, 100), s**2 / 2, tau=s), 200)
    assert samples.var().item() == pytest.approx(0.0851469, rel=0.01)  # the exact posterior has 0.0825688
    assert samples.mean().item() == pytest.approx(mode, abs=0.005)


def test_masked_pixels_keep_their_bits_even_where_the_gradient_is_not_finite() -> None:
    y = torch.tensor([[[[0.3, float("1e-30")]]]])
    rows = {**start(y, 0.5), "mask": torch.tensor([[[[0.0, 1.0]]]])}
    after = chain(lambda rows: (1 / (rows["y"] - 0.3)).flatten(1)[:, :1].sum(1) * 0 + quadratic(1.0)(rows), rows, 3)
    assert after[0, 0, 0, 0] == y[0, 0, 0, 0]
    assert after[0, 0, 0, 1] != y[0, 0, 0, 1]


def test_the_gradient_is_of_the_sum_not_of_the_mean() -> None:
    y = torch.ones(5, 1, 2, 2)
    assert torch.equal(ascend(quadratic(3.0), {"y": y}), -3 * y)
