"""The short run of CF-EBM against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.core.loop import Kernel, Loop, Rows, Task, run
from models.core.noise import Key, Noise
from models.samplers.langevin import Value
from models.samplers.shortrun import scheduled, shortrun


def quadratic(rows: Rows) -> Tensor:
    """f = -|x|^2 / 2."""
    return -0.5 * rows["y"].square().flatten(1).sum(1)


def wavy(rows: Rows) -> Tensor:
    """A smooth f with many modes, of which no closed form of the chain is known."""
    y = rows["y"]
    return (torch.sin(4 * y) / 4 - 0.5 * y.square() + y * y.flip(3) / 3).flatten(1).sum(1)


def start(y: Tensor, lr: float, s0: float = 0.0, s1: float = 0.0, total: int = 1) -> Rows:
    one = torch.ones(len(y), 1, 1, 1, dtype=y.dtype)
    return {"y": y, "lr": one * lr, "s0": one * s0, "s1": one * s1, "k0": one * 0, "total": one * total}


def chain(rows: Rows, steps: int, value: Value = quadratic) -> Rows:
    def task() -> Task[Rows]:
        return (yield Loop(shortrun(value), rows, steps, list(range(len(rows["y"])))))

    return run(task())


def test_the_stationary_variance_of_a_gaussian() -> None:
    """sigma^2 / (1 - (1 - lr)^2), with the noise apart from the step size."""
    after = chain(start(torch.zeros(8, 1, 100, 100), 0.3, 0.01, 0.01), 60)["y"]
    assert after.var().item() == pytest.approx(1.961e-4, rel=0.02)


def test_at_a_step_size_of_one_only_the_last_noise_is_left() -> None:
    y = torch.rand(2, 1, 100, 100, dtype=torch.float64) * 2 - 1
    after = chain(start(y, 1.0, 1.5e-2, total=15), 15)["y"]
    last = Noise([Key(seed, 0, 14) for seed in (0, 1)]).normal(1, 100, 100)
    torch.testing.assert_close(after, 1.0e-3 * last.double(), atol=1e-12, rtol=1e-6)


def test_beyond_a_step_size_of_two_the_chain_grows() -> None:
    after = chain(start(torch.ones(1, 1, 1, 1, dtype=torch.float64), 2.1), 10)["y"]
    assert after.item() == pytest.approx(1.1**10, rel=1e-12)


def test_the_variance_of_a_short_run_from_uniform_noise() -> None:
    y = torch.rand(20, 1, 100, 100, generator=torch.Generator().manual_seed(0)) * 2 - 1
    after = chain(start(y, 0.3, 1.5e-2, total=15), 15)["y"]
    variance = 1 / 3
    for k in range(15):
        variance = 0.7**2 * variance + (1.5e-2 * (1 - k / 15)) ** 2
    assert variance == pytest.approx(1.8733e-5, rel=1e-4)
    assert after.var().item() == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize(
    ("k", "s0", "s1", "total", "sigma"),
    [
        (0, 1.5e-2, 0.0, 45, 0.015),
        (14, 1.5e-2, 0.0, 45, 0.010333),
        (15, 1.5e-2, 0.0, 45, 0.01),
        (29, 1.5e-2, 0.0, 45, 0.005333),
        (30, 1.5e-2, 0.0, 45, 0.005),
        (44, 1.5e-2, 0.0, 45, 0.000333),
        (49, 3e-2, 5e-4, 50, 0.00109),
        (7, 1e-2, 1e-2, 50, 0.01),
    ],
)
def test_the_noise_falls_linearly_over_the_whole_chain(k: int, s0: float, s1: float, total: int, sigma: float) -> None:
    found = scheduled(*(torch.tensor(value, dtype=torch.float64) for value in (s0, s1, k, total)))
    assert found.item() == pytest.approx(sigma, abs=5e-7)


def test_a_later_loop_goes_on_in_the_schedule() -> None:
    """Two loops, the second of which knows the steps before it, have the noise of one."""
    rows = start(torch.zeros(1, 1, 200, 200), 1.0, 1.5e-2, total=45)
    rows["k0"] = rows["k0"] + 30
    after = chain(rows, 15)["y"]
    assert after.std().item() == pytest.approx(1.5e-2 / 45, rel=0.02)


def saliency(y: Tensor, lr: float, steps: int, s0: float = 0.0) -> Rows:
    zero = torch.zeros_like(y)
    return chain({**start(y, lr, s0, total=steps), "net": zero, "path": zero}, steps, wavy)


def test_saliency_telescopes_without_noise() -> None:
    y, lr = torch.rand(3, 2, 6, 6) * 2 - 1, 0.4
    after = saliency(y, lr, 20)
    torch.testing.assert_close(after["net"], (y - after["y"]) / lr, atol=1e-5, rtol=0)
    assert (after["path"] >= lr * after["net"].abs() - 1e-6).all()
    assert after["path"].max() > 1.1 * (lr * after["net"].abs()).max()  # some of the way led back


def test_noise_does_not_enter_saliency() -> None:
    y, lr, s0, steps = torch.rand(2, 1, 6, 6, dtype=torch.float64) * 2 - 1, 0.4, 0.03, 8
    after = saliency(y, lr, steps, s0)
    noise = [Noise([Key(seed, 0, k) for seed in (0, 1)]).normal(1, 6, 6) for k in range(steps)]
    added = sum(s0 * (1 - k / steps) * u.double() for k, u in enumerate(noise))
    torch.testing.assert_close(after["net"], (y - after["y"] + added) / lr, atol=1e-8, rtol=0)


def test_pixels_outside_the_mask_keep_their_bits() -> None:
    y = torch.rand(2, 3, 8, 8) * 2 - 1
    mask = (torch.rand(2, 1, 8, 8) > 0.5).float()
    after = chain({**start(y, 0.3, 0.02, total=9), "mask": mask}, 9, wavy)["y"]
    held = (mask == 0).expand_as(y)
    assert torch.equal(after[held], y[held])
    assert (after[~held] != y[~held]).float().mean() > 0.99


def advance(kernel: Kernel, rows: Rows, seeds: list[int], steps: list[int]) -> Rows:
    noise = Noise([Key(seed, 0, step) for seed, step in zip(seeds, steps, strict=True)])
    return kernel(rows, torch.tensor(steps), noise)


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    """32 rows of other jobs, at other steps of other chains, some without noise, each with a mask of its own."""
    n, kernel = 32, shortrun(wavy)
    ramp = torch.linspace(0, 1, n).reshape(n, 1, 1, 1)
    rows = {
        "y": torch.rand(n, 2, 8, 8) * 2 - 1,
        "lr": 0.1 + ramp,
        "s0": 0.03 * (ramp > 0.3),
        "s1": 0.01 * (ramp > 0.8),
        "k0": (20 * ramp).round(),
        "total": 40 + (20 * ramp).round(),
        "mask": (torch.rand(n, 1, 8, 8) > 0.2).float(),
    }
    together = rows
    steps = [k % 5 for k in range(n)]
    for more in range(4):
        together = advance(kernel, together, list(range(n)), [step + more for step in steps])
    for k in range(n):
        alone = {name: value[k : k + 1] for name, value in rows.items()}
        for more in range(4):
            alone = advance(kernel, alone, [k], [steps[k] + more])
        torch.testing.assert_close(alone["y"][0], together["y"][k], atol=1e-5, rtol=0)


def test_the_seed_matters_only_with_noise() -> None:
    y, kernel = torch.rand(1, 1, 8, 8), shortrun(wavy)
    for s0, same in ((0.0, True), (0.01, False)):
        first, again, other = (advance(kernel, start(y, 0.3, s0), [seed], [0])["y"] for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert torch.equal(first, other) is same
