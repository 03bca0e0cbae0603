from __future__ import annotations

import torch

from models.core.noise import Key, Noise, mix, row_seeds


def test_a_rows_noise_does_not_depend_on_its_company() -> None:
    keys = [Key(seed, 2, 3) for seed in range(9)]
    together = Noise(keys).normal(3, 4)
    for k, key in enumerate(keys):
        assert torch.equal(Noise([key]).normal(3, 4)[0], together[k])


def test_every_part_of_the_key_and_every_draw_matters() -> None:
    base = Noise([Key(1, 2, 3)])
    first, second = base.normal(8), base.normal(8)
    others = [Noise([key]).normal(8) for key in (Key(2, 2, 3), Key(1, 3, 3), Key(1, 2, 4))]
    numbers = torch.cat([first, second, *others])
    assert len(numbers.unique(dim=0)) == 5


def test_noise_has_the_right_moments() -> None:
    noise = Noise([Key(seed, 0, step) for seed in range(40) for step in range(25)])
    normal, uniform = noise.normal(500), noise.uniform(500)
    assert abs(normal.mean()) < 0.005
    assert abs(normal.var() - 1) < 0.01
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.002
    assert abs(uniform.var() - 1 / 12) < 0.001
    # neighbouring keys are not correlated
    assert abs((normal[1:] * normal[:-1]).mean()) < 0.005


def test_mix_spreads_neighbouring_keys() -> None:
    seeds = {mix(a, b) for a in range(200) for b in range(200)}
    assert len(seeds) == 40_000
    flips = [bin(mix(7, k) ^ mix(7, k + 1)).count("1") for k in range(200)]
    assert 28 < sum(flips) / len(flips) < 36


def test_row_seeds_are_a_prefix_of_longer_ones() -> None:
    assert row_seeds(5, 8)[:3] == row_seeds(5, 3)
    assert all(0 <= seed < 2**53 for seed in row_seeds(2**63 - 1, 8))
    assert len({*row_seeds(5, 8), *row_seeds(6, 8)}) == 16
