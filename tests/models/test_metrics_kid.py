"""The kernel distance: the formula, its laws, and how it reacts to worse images."""

import pytest
import torch
from torch import Tensor
from torchmetrics.image.kid import poly_mmd

from models.metrics.kid import kid, kid_with_error, reference


def _features(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def _by_the_formula(x: Tensor, y: Tensor) -> float:
    def k(u: Tensor, v: Tensor) -> float:
        return float((u @ v / len(u) + 1) ** 3)

    x, y = x.double(), y.double()
    m, n = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_y = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within_x + within_y - 2 * sum(k(u, v) for u in x for v in y) / (m * n)


def test_it_is_the_unbiased_formula_also_for_sets_of_different_sizes() -> None:
    x, y = _features(9, 5, 0), _features(14, 5, 1, shift=0.5)
    assert kid(x, y) == pytest.approx(_by_the_formula(x, y), abs=1e-5)
    assert kid(x, reference(y)) == kid(x, y)
    assert kid(y, x) == pytest.approx(kid(x, y), abs=1e-5)


def test_it_agrees_with_torchmetrics_where_that_is_defined() -> None:
    x, y = _features(40, 8, 0).double(), _features(40, 8, 1, shift=0.3).double()
    assert kid(x, y) == pytest.approx(float(poly_mmd(x, y)), rel=1e-9)


def test_large_sets_are_summed_in_chunks() -> None:
    x, y = _features(2_300, 6, 0).double(), _features(1_500, 6, 1, shift=0.2).double()
    whole = ((x @ y.T / 6 + 1) ** 3).mean()
    xx, yy = (((v @ v.T / 6 + 1) ** 3) for v in (x, y))
    within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    assert kid(x, y) == pytest.approx(float(within[0] + within[1] - 2 * whole), rel=1e-9)


def test_two_draws_of_one_law_are_at_distance_zero_on_average() -> None:
    values = torch.tensor([kid(_features(200, 16, 2 * s), _features(150, 16, 2 * s + 1)) for s in range(40)])
    error = float(values.std()) / 40**0.5
    assert abs(float(values.mean())) < 3 * error
    assert values.min() < 0 < values.max()  # unbiased, so not all above zero
    assert kid(_features(200, 16, 0), _features(150, 16, 1, shift=0.5)) > 10 * float(values.abs().max())


@pytest.mark.parametrize("shift", [0.3, 1.0])
def test_the_standard_error_is_the_spread_over_fresh_sets(shift: float) -> None:
    got = [kid_with_error(_features(150, 8, 2 * s), _features(120, 8, 2 * s + 1, shift)) for s in range(60)]
    values, errors = (torch.tensor([getattr(e, name) for e in got]) for name in ("value", "std_error"))
    assert errors.square().mean().sqrt().item() == pytest.approx(float(values.std()), rel=0.3)
    assert got[0].value == kid(_features(150, 8, 0), _features(120, 8, 1, shift))


def test_images_in_the_order_of_their_answers_have_a_smaller_error() -> None:
    x = _features(200, 8, 0)
    y = x + 0.1 * _features(200, 8, 1) + 0.3
    shuffled = y[torch.randperm(200, generator=torch.Generator().manual_seed(2))]
    assert kid_with_error(x, y).std_error < 0.8 * kid_with_error(x, shuffled).std_error


def test_a_difference_over_the_same_images_has_a_smaller_error_than_its_parts() -> None:
    target, one = _features(150, 8, 0), _features(150, 8, 1, shift=0.5)
    worse, better = kid_with_error(one + 0.1, target), kid_with_error(one, target)
    gain = worse - better
    assert gain.value == pytest.approx(worse.value - better.value)
    assert gain.value > 3 * gain.std_error
    assert gain.std_error < 0.5 * better.std_error


def test_sets_too_small_for_an_error_are_refused() -> None:
    with pytest.raises(ValueError, match="10 groups need at least 10 members: 9, 20"):
        kid_with_error(_features(9, 5, 0), _features(20, 5, 1))
    with pytest.raises(ValueError, match="groups"):
        kid_with_error(_features(20, 5, 0), _features(20, 5, 1), groups=1)
    assert kid_with_error(_features(4, 5, 0), _features(4, 5, 1), groups=2).std_error > 0


def test_sets_that_can_not_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two members"):
        kid(_features(1, 5, 0), _features(9, 5, 1))
    with pytest.raises(ValueError, match=r"\[9, 5\] and \[9, 6\]"):
        kid(_features(9, 5, 0), _features(9, 6, 1))
