"""The latent chain against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.core.loop import Loop, Rows, Task, run
from models.core.noise import Key, Noise
from models.samplers.latent import LatentChain, known_label, log_joint

SIGMA, S = 0.3, 0.1
LAMBDA = 1 + 1 / SIGMA**2


def identity(x: Tensor, c: Tensor) -> Tensor:
    """g(X) = X, whatever the label."""
    return x


def start(n: int, size: int, ticks: int, s: float = S, classes: int = 2) -> Rows:
    """Rows whose image is 1 everywhere, in float64 so that digits can be compared."""
    c = torch.zeros(n, classes, dtype=torch.float64)
    c[:, 0] = 1
    return {
        "y": torch.ones(n, size, dtype=torch.float64),
        "c": c,
        "s": torch.full((n, 1), s, dtype=torch.float64),
        "ticks": torch.full((n,), ticks),
    }


def begin(chain: LatentChain, rows: Rows, seed: int = 1) -> Rows:
    n = len(rows["y"])
    keys = [Key(seed + row, 0, 0) for row in range(n)]
    rows = chain.start(rows, torch.zeros(n, dtype=torch.int64), Noise(keys))
    return {k: v.double() if v.is_floating_point() else v for k, v in rows.items()}


def tick(chain: LatentChain, rows: Rows, t: int, seed: int = 1) -> Rows:
    n = len(rows["y"])
    keys = [Key(seed + row, 1, t) for row in range(n)]
    return chain.step(rows, torch.full((n,), t), Noise(keys))


def test_one_pixel_goes_to_the_most_likely_latent_at_the_closed_rate() -> None:
    """g(X) = X, Y = 1: l is a parabola of curvature 12.1111 around 0.917431; a tick takes 0.939444 of the way left."""
    chain = known_label(log_joint(identity, SIGMA), 1)
    rows = begin(chain, start(3, 1, ticks=10))
    mode = (1 / SIGMA**2) / LAMBDA
    assert pytest.approx(12.1111, abs=5e-5) == LAMBDA
    assert mode == pytest.approx(0.917431, abs=5e-7)
    away = rows["x"] - mode
    assert bool((away.abs() > 0.05).all())
    for _ in range(20):
        rows = tick(chain, rows, t=9)  # of 10: without noise
    torch.testing.assert_close((rows["x"] - mode) / away, torch.full((3, 1), 0.939444**20).double(), rtol=2e-5, atol=0)
    for _ in range(230):
        rows = tick(chain, rows, t=9)
    torch.testing.assert_close(rows["x"], torch.full((3, 1), 0.917431).double(), rtol=0, atol=1e-6)


def test_the_noisy_chain_has_the_closed_moments() -> None:
    """Its variance is 0.0851469 rather than 1/12.1111 = 0.0825688: the bias of Langevin steps of this size."""
    pixels, n = 2_000, 40
    chain = known_label(log_joint(identity, SIGMA), pixels)
    rows = begin(chain, start(n, pixels, ticks=1_000))
    seen = []
    for t in range(160):
        rows = tick(chain, rows, t)
        if t >= 120 and t % 20 == 0:
            seen.append(rows["x"].flatten())
    x = torch.cat(seen)
    assert x.mean().item() == pytest.approx(0.917431, abs=4e-3)
    assert x.var().item() == pytest.approx(0.0851469, rel=1e-2)
    assert rows["s"].unique().tolist() == [S]  # noise may lower l, and does not halve s


def test_the_schedule_of_a_row_follows_its_own_number_of_ticks() -> None:
    """Rows of 10, 20 and 5 ticks at tick 7: quiet, noisy, and quiet."""
    chain = known_label(log_joint(identity, SIGMA), 1)
    rows = begin(chain, start(3, 1, ticks=10))
    rows["ticks"] = torch.tensor([10, 20, 5])
    by_seed = [tick(chain, rows, 7, seed) for seed in (1, 9)]
    moved = [not torch.equal(by_seed[0]["x"][row], by_seed[1]["x"][row]) for row in range(3)]
    assert moved == [False, True, False]


def test_a_step_that_is_too_large_is_taken_back_and_halved() -> None:
    """s^2 lambda = 4.4 > 4: the plain step runs away. The other row is not touched by it."""
    chain = known_label(log_joint(identity, SIGMA), 1)
    rows = begin(chain, start(2, 1, ticks=10))
    rows["s"] = torch.tensor([[(4.4 / LAMBDA) ** 0.5], [S]], dtype=torch.float64)
    first = tick(chain, rows, 8)
    assert torch.equal(first["x"][0], rows["x"][0])
    assert first["s"][0].item() == rows["s"][0].item() / 2
    assert first["s"][1].item() == S
    assert not torch.equal(first["x"][1], rows["x"][1])
    for _ in range(200):
        before, first = first, tick(chain, first, 8)
        assert bool((first["l"] >= before["l"]).all())
    torch.testing.assert_close(first["x"], torch.full((2, 1), 0.917431).double(), rtol=0, atol=1e-5)


def test_rows_of_different_length_share_a_batch() -> None:
    """Each is what it is alone, and the state keeps its names, shapes and types."""
    chain = known_label(log_joint(identity), 4)
    lengths = (5, 9, 14)

    def task(ticks: int) -> Task[Rows]:
        rows = {k: v.float() if v.is_floating_point() else v for k, v in start(1, 4, ticks).items()}
        rows = yield Loop(chain.start, rows, 1, [ticks])
        form = {k: (v.shape, v.dtype) for k, v in rows.items()}
        rows = yield Loop(chain.step, rows, ticks, [ticks])
        assert {k: (v.shape, v.dtype) for k, v in rows.items()} == form
        return rows

    alone = [run(task(ticks)) for ticks in lengths]
    parts = [{k: v.float() if v.is_floating_point() else v for k, v in start(1, 4, n).items()} for n in lengths]
    rows = {k: torch.cat([part[k] for part in parts]) for k in parts[0]}
    rows = chain.start(rows, torch.zeros(3, dtype=torch.int64), Noise([Key(n, 0, 0) for n in lengths]))
    done: dict[int, Rows] = {}
    for t in range(max(lengths)):
        rows = chain.step(rows, torch.full((3,), t), Noise([Key(n, 1, t) for n in lengths]))
        done |= {k: {name: v[k] for name, v in rows.items()} for k, n in enumerate(lengths) if t == n - 1}
    for k in range(3):
        torch.testing.assert_close(done[k]["x"], alone[k]["x"][0])
        torch.testing.assert_close(done[k]["c"], alone[k]["c"][0])
