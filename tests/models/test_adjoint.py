"""Bounded chains, and descent through chains, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.core.loop import Loop, Rows, Task, run
from models.core.noise import Noise
from models.networks.residual_energy import ResidualEnergy
from models.samplers.adjoint import begin, cosine, descent, error, hessian_product, judged, misfit, noted, straight
from models.samplers.langevin import UNBOUNDED, Value, langevin


def quadratic(k: float) -> Value:
    return lambda rows: -0.5 * k * rows["y"].square().flatten(1).sum(1)


def slope(b: float) -> Value:
    return lambda rows: b * rows["y"].flatten(1).sum(1)


def flat(rows: Rows) -> Tensor:
    return rows["y"].flatten(1).sum(1) * 0


def start(y: Tensor, delta: float, *, kappa: float = UNBOUNDED, end: float = UNBOUNDED, tau: float = 0.0) -> Rows:
    one = torch.ones(len(y), 1, 1, 1, dtype=y.dtype)
    numbers = {"eta": delta**2 / 2, "rho": 0.0, "tau": tau, "kappa": kappa, "lo": -end, "hi": end}
    return {"y": y, "cut": y.new_zeros(len(y)), **{name: one * number for name, number in numbers.items()}}


def chain(value: Value, rows: Rows, steps: int) -> Rows:
    def task() -> Task[Rows]:
        return (yield Loop(langevin(value), rows, steps, [3 + k for k in range(len(rows["y"]))]))

    return run(task())


# The bounded step


def test_a_drift_within_its_bound_is_not_cut() -> None:
    after = chain(slope(100), start(torch.full((1, 1, 2, 2), -0.9), 0.03, kappa=0.1, end=1.0), 30)
    torch.testing.assert_close(after["y"], torch.full((1, 1, 2, 2), 0.45), atol=1e-6, rtol=0)
    assert after["cut"].item() == 0


def test_a_drift_beyond_its_bound_is_cut_until_pixels_are_at_theirs() -> None:
    rows = start(torch.full((1, 1, 2, 2), -1.0), 0.03, kappa=0.1, end=1.0)
    for step, expected, cut in ((1, -0.9, 1), (19, 0.9, 1), (21, 1.0, 0), (30, 1.0, 0)):
        after = chain(slope(300), rows, step)
        torch.testing.assert_close(after["y"], torch.full((1, 1, 2, 2), expected), atol=1e-6, rtol=0)
        assert after["cut"].item() == cut  # a pixel that is driven against its end would not go further unbounded


def test_a_quadratic_contracts_geometrically() -> None:
    y = torch.linspace(-3, 3, 16, dtype=torch.float64).view(1, 1, 4, 4)
    after = chain(quadratic(1), start(y, 0.3), 30)["y"]
    torch.testing.assert_close(after / y, torch.full_like(y, 0.251247), atol=0, rtol=2e-6)


def test_with_noise_the_variance_has_the_known_bias_of_the_step() -> None:
    after = chain(quadratic(1), start(torch.zeros(2, 1, 1, 100_000), 0.5, tau=0.5), 200)["y"]
    assert float(after.var()) == pytest.approx(1.0667, rel=0.01)


# Fixed points of cooperation in one dimension


def quantiles(n: int) -> Tensor:
    """Points that have the moments of N(0, 1), exactly the second."""
    points = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    return (points / points.square().mean().sqrt()).view(1, 1, 1, -1)


def cooperate(
    w: float,
    scale: float,
    *,
    fit: float,
    delta: float,
    steps: int,
    tau: float,
    points: Tensor,
    updates: int,
) -> tuple[float, float, float]:
    """w, the scale of q and the variance of the chain's ends when f = -w x^2 / 2 learns N(0, 1).

    ``fit`` is how far q follows the ends in an update; without noise, and if it followed wholly, nothing would damp the
    circling of the two.
    """
    for _ in range(updates):
        ends = chain(quadratic(w), start(scale * points, delta, tau=tau), steps)["y"]
        variance = float(ends.square().mean())
        w += 0.15 * (variance - 1)
        scale = scale ** (1 - fit) * variance ** (fit / 2)
    return w, scale, variance


def test_without_noise_a_flow_that_can_does_all_the_work() -> None:
    found = cooperate(1.0, 1.3, fit=0.5, delta=0.3, steps=30, tau=0.0, points=quantiles(200), updates=250)
    assert found == pytest.approx((0.0, 1.0, 1.0), abs=1e-3)


def test_without_noise_a_flow_that_cannot_biases_the_energy() -> None:
    found = cooperate(1.0, 1.5, fit=0.0, delta=0.3, steps=30, tau=0.0, points=quantiles(200), updates=300)
    assert found[0] == pytest.approx(0.298324, abs=1e-5)
    assert found[2] == pytest.approx(1.0, abs=1e-5)


def test_with_noise_energy_and_flow_both_become_valid() -> None:
    normal = torch.randn(1, 1, 1, 40_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w, scale, variance = cooperate(0.9, 1.2, fit=1.0, delta=0.3, steps=10, tau=0.3, points=normal, updates=60)
    assert w == pytest.approx(1.023573, rel=0.03)
    assert (scale, variance) == pytest.approx((1.0, 1.0), rel=0.03)


@pytest.mark.parametrize(("steps", "w"), [(10, 8.636), (30, 3.381), (100, 1.529)])
def test_a_longer_chain_from_a_wrong_flow_needs_a_less_wrong_energy(steps: int, w: float) -> None:
    normal = 1.5 * torch.randn(1, 1, 1, 100_000, generator=torch.Generator().manual_seed(1))
    ends = chain(quadratic(w), start(normal, 0.1, tau=0.1), steps)["y"]
    assert float(ends.var()) == pytest.approx(1.0, rel=0.015)


# The adjoint


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return ResidualEnergy(1, 2, 8).double().requires_grad_(False)


def pixels(n: int, seed: int) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.6 - 0.8


def descend(value: Value, rows: Rows, steps: int, iterations: int) -> Rows:
    """So many iterations, and the end of the chain from the last start."""
    forward, backward = noted(langevin(value)), descent(hessian_product(value))
    seeds = [0] * len(rows["y"])

    def task(rows: Rows) -> Task[Rows]:
        for _ in range(iterations):
            rows = yield Loop(forward, rows, steps, seeds)
            rows = yield Loop(backward, rows, steps, seeds)
        return (yield Loop(forward, rows, steps, seeds))

    return run(task(rows))


def test_the_adjoint_is_the_gradient_through_the_unrolled_chain() -> None:
    f, target, mask = network(), pixels(3, 1), (pixels(3, 2) > 0).double()
    rate, x = 1e-3, pixels(3, 3).requires_grad_(True)

    def loss(x: Tensor) -> Tensor:
        for _ in range(6):
            (gradient,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
            x = x + 0.02 * gradient
        return (mask * (x - target)).square().sum()

    unrolled = loss(x)
    (expected,) = torch.autograd.grad(unrolled, x)
    rows = begin(start(x.detach(), 0.2), target, mask, rate=rate, decay=1.0, steps=6, iterations=1)
    after = descend(lambda rows: f(rows["y"]), rows, 6, 1)
    assert (after["lam"] - expected).abs().max() < 1e-12
    torch.testing.assert_close(after["path"][:, 0], (x.detach() - rate * expected).clamp(-1, 1))
    torch.testing.assert_close((after["loss"] * mask.flatten(1).sum(1)).sum(), unrolled.detach())
    way = pixels(3, 4)
    ahead, back = (float(loss(x + sign * 1e-5 * way).detach()) for sign in (1, -1))
    assert float((after["lam"] * way).sum()) == pytest.approx((ahead - back) / 2e-5, rel=1e-6)


def test_reconstruction_of_a_contraction_converges_at_its_own_rate() -> None:
    y, target = pixels(2, 1), 0.25 * pixels(2, 2)
    rows = begin(start(y, 0.3), target, torch.ones(1), rate=0.05, decay=1.0, steps=30, iterations=200)
    before = chain(quadratic(1), start(y, 0.3), 30)["y"] - target
    after = descend(quadratic(1), rows, 30, 200)
    torch.testing.assert_close(after["y"] - target, 0.2818 * before, rtol=1e-3, atol=1e-12)
    torch.testing.assert_close(error(after), 0.0794 * before.square().flatten(1).mean(1), rtol=1e-3, atol=0)
    assert (after["curve"].diff(dim=1) < 0).all()


def test_inpainting_without_a_force_moves_known_pixels_alone() -> None:
    y, target = pixels(2, 1), pixels(2, 2)
    known = torch.zeros(1, 8, 8, dtype=torch.float64)
    known[:, :, :4] = 1
    rows = begin(start(y, 0.3), target, known, rate=0.03, decay=0.99, steps=3, iterations=201)
    after = descend(flat, rows, 3, 201)["y"]
    assert torch.equal(after[..., 4:], y[..., 4:])
    torch.testing.assert_close((after - target)[..., :4], 0.005014 * (y - target)[..., :4], rtol=1e-3, atol=0)


def test_a_row_that_gets_much_worse_goes_back_to_its_best_and_halves_its_rate() -> None:
    """At this rate the descent of f = 0 overshoots, each time by more; at half of it it converges."""
    y, target = pixels(1, 1), 0.2 * pixels(1, 2)
    rows = begin(start(y, 0.3), target, torch.ones(1), rate=1.7, decay=1.0, steps=2, iterations=12)
    after = descend(flat, rows, 2, 12)
    assert float(after["rate"]) == pytest.approx(1.7 / 2)
    assert float(judged(after)["least"]) < 0.1 * float(after["curve"][0, 0])


def test_a_row_is_done_when_it_is_near_or_does_not_come_nearer() -> None:
    target = torch.full((2, 1, 8, 8), 0.1, dtype=torch.float64)
    near = begin(start(target + 0.001, 0.3), target, torch.ones(1), rate=0.01, decay=1.0, steps=1, iterations=30)
    assert descend(flat, near, 1, 1)["done"].all()
    stuck = begin(start(target + 0.5, 0.3), target, torch.ones(1), rate=0.0, decay=1.0, steps=1, iterations=30)
    assert not descend(flat, stuck, 1, 20)["done"].any()
    assert descend(flat, stuck, 1, 21)["done"].all()


def test_a_path_with_room_for_longer_chains_changes_nothing() -> None:
    f, target = network(), pixels(2, 1)

    def found(room: int) -> Rows:
        rows = begin(
            start(pixels(2, 5), 0.2), target, torch.ones(1), rate=0.1, decay=1.0, steps=3, iterations=4, room=room
        )
        return descend(lambda rows: f(rows["y"]), rows, 3, 4)

    tight, roomy = found(0), found(7)
    assert roomy["path"].shape[1] == 7
    assert all(torch.equal(value, roomy[name]) for name, value in tight.items() if name != "path")


def test_rows_of_an_energy_are_independent() -> None:
    """Alone or together, in any order, and a row with a step of 0 stays bit for bit."""
    f = network().float()

    def value(rows: Rows) -> Tensor:
        return f(rows["y"])

    y = pixels(8, 6).float()
    rows = start(y, 0.2, kappa=0.1, end=1.0)
    rows["eta"][3] = 0.0
    together = chain(value, rows, 30)["y"]
    for k in range(8):
        alone = chain(value, {name: v[k : k + 1] for name, v in rows.items()}, 30)["y"]
        assert (alone[0] - together[k]).abs().max() < 1e-5
    assert torch.equal(together[3], y[3])
    order = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])
    permuted = chain(value, {name: v[order] for name, v in rows.items()}, 30)["y"]
    torch.testing.assert_close(permuted, together[order], atol=1e-5, rtol=0)
    assert torch.equal(together, chain(value, rows, 30)["y"])


def test_the_identity_moves_a_start_by_the_misfit_of_its_end() -> None:
    y = torch.linspace(-0.4, 0.4, 16, dtype=torch.float64).view(1, 1, 4, 4)
    rows = begin(start(y, 0.3), y / 2, torch.ones(1, 1, 1, 1), rate=0.05, decay=1.0, steps=3, iterations=1)
    ended = {**rows, "y": 0.9 * y}
    torch.testing.assert_close(misfit(ended), 0.8 * y)
    after = straight()(ended, torch.zeros(1, dtype=torch.int64), Noise([]))
    torch.testing.assert_close(after["y"], y - 0.05 * 0.8 * y)
    assert after["iteration"].item() == 1
    torch.testing.assert_close(cosine(misfit(ended), y), torch.ones(1, dtype=torch.float64))
