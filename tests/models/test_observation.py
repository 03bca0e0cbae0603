"""Observation operators: their adjoints, and the matrices by which rows hold them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.samplers.observation import (
    Observation,
    Operator,
    avg_pool,
    blur,
    chain,
    grayscale,
    misfit,
    strided,
    whole,
    window,
)

SHAPE = (3, 12, 8)
CPU = torch.device("cpu")

OPERATORS: dict[str, Callable[[], Operator]] = {
    "whole": lambda: whole(SHAPE),
    "window": lambda: window(SHAPE, 2),
    "pool 2": lambda: avg_pool(SHAPE, 2),
    "pool 4": lambda: avg_pool(SHAPE, 4),
    "strided": lambda: strided(SHAPE, 4),
    "grey": lambda: grayscale(SHAPE),
    "blur": lambda: blur(SHAPE, 1.3),
    "blur, then pool, then grey": lambda: chain(blur(SHAPE, 0.8), avg_pool(SHAPE, 2), grayscale((3, 6, 4))),
    "window, then pool": lambda: chain(window(SHAPE, 2), avg_pool((3, 8, 4), 4)),
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_its_adjoint(name: str) -> None:
    """<A x, u> = <x, A' u>, with weights too: a mask is its own adjoint."""
    operator = OPERATORS[name]()
    x, u = random(*SHAPE).double(), random(*operator.shape, seed=1).double()
    m = (random(*operator.shape, seed=2) > 0).double()
    torch.testing.assert_close((operator(x) * u).sum(), (x * operator.adjoint(u)).sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close((m * operator(x) * u).sum(), (x * operator.adjoint(m * u)).sum(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", OPERATORS)
def test_rows_hold_what_the_operator_does(name: str) -> None:
    """As sums of squares and as gradients, beside a row that sees something else."""
    operator = OPERATORS[name]()
    x = random(2, *SHAPE).double().requires_grad_(True)
    y, m = random(*operator.shape, seed=1), (random(*operator.shape, seed=2) > 0).float()
    own, other = (
        o.rows(1, SHAPE, CPU) for o in (Observation(operator, y, m), Observation(whole(SHAPE), x[1], m[:1, :1, :1]))
    )
    rows = {k: torch.cat([v.double(), other[k].double()]).detach() for k, v in own.items()}
    found = misfit(rows, x)
    difference = (m.double() * (operator(x[0]) - y.double())).detach()
    torch.testing.assert_close(found[0], difference.square().sum())
    (gradient,) = torch.autograd.grad(found[0], x)
    torch.testing.assert_close(gradient[0], 2 * operator.adjoint(difference))
    assert not gradient[1].any()


@pytest.mark.parametrize("factor", [2, 4])
def test_pooling_there_and_back_is_a_number(factor: int) -> None:
    operator = avg_pool(SHAPE, factor)
    u = random(*operator.shape)
    torch.testing.assert_close(operator(operator.adjoint(u)), u / factor**2)
    torch.testing.assert_close(
        operator(random(*SHAPE)), torch.nn.functional.avg_pool2d(random(*SHAPE)[None], factor)[0]
    )


def test_lightness_and_blur_keep_a_plain_grey() -> None:
    plain = torch.full(SHAPE, 0.3)
    torch.testing.assert_close(grayscale(SHAPE)(plain), torch.full((1, 12, 8), 0.3))
    torch.testing.assert_close(blur(SHAPE, 2.0)(plain), plain)
    green = torch.zeros(SHAPE)
    green[1] = 1
    assert grayscale(SHAPE)(green).unique().tolist() == pytest.approx([0.587])


def test_a_blur_spreads_a_point_by_its_deviation() -> None:
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1
    spread = blur((1, 41, 41), 2.0)(point)[0].sum(0)
    place = torch.arange(41) - 20.0
    assert float((spread * place.square()).sum()) == pytest.approx(4, rel=0.05)


def test_values_that_are_not_seen_are_never_looked_at() -> None:
    y = torch.full(SHAPE, float("nan"))
    y[:, :2] = 0.5
    m = torch.zeros(1, *SHAPE[1:])
    m[:, :2] = 1
    seen = Observation(whole(SHAPE), y, m)
    assert seen.scalars == 3 * 2 * 8
    found = misfit(seen.rows(1, SHAPE, CPU), torch.zeros(1, *SHAPE))
    assert found.tolist() == pytest.approx([0.25 * seen.scalars])


@pytest.mark.parametrize("factor", [0, 3, 5])
def test_a_factor_must_divide(factor: int) -> None:
    with pytest.raises(ValueError, match="does not divide"):
        avg_pool((3, 10, 8), factor)


def test_lightness_needs_colours() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        grayscale((1, 8, 8))
