from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from models.core.noise import Key, Noise, folded, mix, row_seeds, streams

MASK = (1 << 64) - 1


def splitmix(key: int, i: int) -> int:
    """Number i of the stream of a key, in Python's integers."""
    z = (key + (i + 1) * 0x9E3779B97F4A7C15) & MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def test_uniform_numbers_are_the_halves_of_splitmix64() -> None:
    key = Key(2**63 + 12_345, 3, 200)
    noise = Noise([Key(1, 0, 0), key])
    noise.normal(2)  # the second draw has another key
    bits = [splitmix(mix(*key, 1), i) for i in range(3)]
    halves = [z >> 32 for z in bits] + [z & (2**32 - 1) for z in bits]
    assert noise.uniform(5)[1].tolist() == [half // 256 / 2**24 for half in halves[:5]]


def test_normal_numbers_are_those_of_box_and_muller() -> None:
    keys = [Key(seed, 1, 4) for seed in range(50)]
    drawn = Noise(keys).normal(2, 3).double()
    for key, row in zip(keys, drawn, strict=True):
        bits = [splitmix(mix(*key, 0), i) for i in range(3)]
        radii = [math.sqrt(-2 * math.log((z >> 32) / 2**32 + 2**-33)) for z in bits]
        angles = [2 * math.pi * (z & (2**32 - 1)) / 2**32 for z in bits]
        expected = [r * math.cos(a) for r, a in zip(radii, angles, strict=True)]
        expected += [r * math.sin(a) for r, a in zip(radii, angles, strict=True)]
        torch.testing.assert_close(row.flatten(), torch.tensor(expected).double(), rtol=1e-5, atol=4e-6)


def test_a_rows_key_is_the_seed_of_that_row_alone() -> None:
    for seed in (0, 7, 2**53 - 1, 2**63 - 1):
        keys = row_seeds(seed, 5)
        assert len(set(keys)) == 5
        assert all(row_seeds(key, 1) == [key] for key in keys)
        assert all(key < 2**53 for key in keys[1:])


@pytest.mark.parametrize("shape", [(1,), (3, 4), (1, 28, 28), (3, 33, 31)])
def test_a_rows_noise_does_not_depend_on_its_company(shape: tuple[int, ...]) -> None:
    keys = [Key(seed, 2, 3) for seed in range(9)]
    together = Noise(keys)
    normal, uniform = together.normal(*shape), together.uniform(*shape)
    for k, key in enumerate(keys):
        alone = Noise([key])
        assert torch.equal(alone.normal(*shape)[0], normal[k])
        assert torch.equal(alone.uniform(*shape)[0], uniform[k])


def test_keys_as_tensors_give_the_same_numbers() -> None:
    seeds, steps = [5, 2**63, 7], [0, 1, 199]
    keys = [Key(seed, 4, step) for seed, step in zip(seeds, steps, strict=True)]
    a, b = Noise(keys), Noise.at(streams(seeds, 4), torch.tensor(steps))
    for _ in range(3):
        assert torch.equal(a.normal(7), b.normal(7))
        assert torch.equal(a.uniform(), b.uniform())


def test_every_part_of_the_key_and_every_draw_matters() -> None:
    base = Noise([Key(1, 2, 3)])
    first, second = base.normal(8), base.normal(8)
    others = [Noise([key]).normal(8) for key in (Key(2, 2, 3), Key(1, 3, 3), Key(1, 2, 4))]
    numbers = torch.cat([first, second, *others])
    assert len(numbers.unique(dim=0)) == 5


def test_normal_numbers_have_the_moments_and_tails_of_a_normal_distribution() -> None:
    """Ten million numbers; every bound is at least four standard errors of what is estimated."""
    x = Noise([Key(seed, 0, 0) for seed in range(100)]).normal(100_000).flatten().double()
    n = len(x)
    for power, moment in enumerate([0.0, 1.0, 0.0, 3.0, 0.0, 15.0], 1):
        spread = math.sqrt((math.prod(range(2 * power - 1, 0, -2)) - moment**2) / n)
        assert abs(x.pow(power).mean() - moment) < 4 * spread, power
    for sigma in (1, 2, 3, 4, 5):
        for side in (1, -1):
            expected = n * math.erfc(sigma / math.sqrt(2)) / 2
            assert abs(int((side * x > sigma).sum()) - expected) < 4 * math.sqrt(expected) + 1, (sigma, side)


def test_uniform_numbers_fill_their_range_evenly() -> None:
    """Chi-square of 4,096 cells, of pairs of neighbours on a grid, and of the lowest bits."""
    u = Noise([Key(seed, 0, 0) for seed in range(64)]).uniform(65_536)
    assert u.min() >= 0
    assert u.max() < 1
    cells = (u * 4096).long()
    assert _plausible(cells.flatten(), 4096)
    assert _plausible((cells[:, 0::2] // 64 * 64 + cells[:, 1::2] // 64).flatten(), 4096)
    assert _plausible((u * 2**24).long().flatten() % 64, 64)


def _plausible(cells: Tensor, n: int) -> bool:
    """Whether chi-square lies within five standard deviations of its mean."""
    counts = torch.bincount(cells, minlength=n).double()
    chi = ((counts - len(cells) / n).square() / (len(cells) / n)).sum()
    return bool(abs(chi - (n - 1)) < 5 * math.sqrt(2 * (n - 1)))


def test_neighbours_are_not_correlated() -> None:
    """Seeds, seeds of a job's rows, loops, steps, draws, elements, and the halves of one number."""
    size, n = 4000, 40
    of_keys = {
        "seed": [Key(seed, 1, 1) for seed in range(n)],
        "row": [Key(seed, 1, 1) for seed in row_seeds(3, n)],
        "loop": [Key(1, loop, 1) for loop in range(n)],
        "step": [Key(1, 1, step) for step in range(n)],
    }
    found = {name: list(Noise(keys).normal(size)) for name, keys in of_keys.items()}
    same = Noise([Key(1, 1, 1)])
    found["draw"] = [same.normal(size)[0] for _ in range(n)]
    long = Noise([Key(9, 0, 0)]).normal(n * size + 1)[0]
    found["element"] = [long[:-1], long[1:]]
    found["half"] = list(long[: n * size].chunk(2))
    for name, parts in found.items():
        products = torch.cat([a * b for a, b in pairwise(parts)]).double()
        assert abs(products.mean()) < 4 / math.sqrt(len(products)), name
        squares = torch.cat([(a.square() - 1) * (b.square() - 1) for a, b in pairwise(parts)]).double()
        assert abs(squares.mean()) < 4 * 2 / math.sqrt(len(squares)), name


def test_mix_spreads_neighbouring_keys() -> None:
    seeds = {mix(a, b) for a in range(200) for b in range(200)}
    assert len(seeds) == 40_000
    flips = [bin(mix(7, k) ^ mix(7, k + 1)).count("1") for k in range(200)]
    assert 28 < sum(flips) / len(flips) < 36


def test_row_seeds_are_a_prefix_of_longer_ones() -> None:
    assert row_seeds(5, 8)[:3] == row_seeds(5, 3)
    assert all(0 <= seed < 2**53 for seed in row_seeds(2**63 - 1, 8)[1:])
    assert len({*row_seeds(5, 8), *row_seeds(6, 8)}) == 16


def test_keys_on_a_device_are_mixed_as_those_of_the_host() -> None:
    late = torch.tensor([5, -3, 2**40])
    expected = [mix(2**63 + 9, 2, k, 7) for k in late.tolist()]
    assert [h & MASK for h in folded([2**63 + 9, 2], late, torch.tensor([7])).tolist()] == expected
