"""A network in training: its average, its rate, and its state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.training.learner import Learner, frozen


def make(decay: float | None = 0.9) -> Learner[nn.Linear]:
    torch.manual_seed(0)
    return Learner("net", nn.Linear(3, 1), lambda k: 0.1 / (k + 1), betas=(0.5, 0.999), decay=decay)


def update(learner: Learner[nn.Linear], iteration: int, lr_scale: float = 1.0) -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(iteration))
    learner.backward(learner.network(x).square().mean())
    learner.update(iteration, lr_scale)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_first_step_of_adam_is_the_rate_of_the_iteration() -> None:
    learner = make()
    before = learner.network.weight.detach().clone()
    update(learner, iteration=4, lr_scale=0.5)
    moved = (learner.network.weight - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.5 * 0.1 / 5), rtol=1e-3, atol=0)


def test_the_average_follows_the_weights() -> None:
    learner, plain = make(), make(decay=None)
    before = learner.network.weight.detach().clone()
    for one in (learner, plain):
        update(one, 0)
    torch.testing.assert_close(learner.served.weight, 0.9 * before + 0.1 * learner.network.weight)
    assert plain.served is plain.network


def test_a_state_brings_all_of_it_back() -> None:
    learner, other = make(), make()
    for k in range(3):
        update(learner, k)
    other.load_state(learner.state())
    for one in (learner, other):
        update(one, 3)
    assert same(learner.state(), other.state())


def test_a_state_from_before_the_first_update_clears_the_moments() -> None:
    learner = make()
    begun = learner.state()
    update(learner, 0)
    learner.load_state(begun)
    assert same(learner.state(), begun)
    assert not learner.moments()


def test_a_state_is_not_changed_by_later_updates() -> None:
    learner = make()
    update(learner, 0)
    state = learner.state()
    kept = {name: value.clone() for name, value in state.items()}
    update(learner, 1)
    assert same(state, kept)


def test_frozen_parameters_get_no_gradients_and_thaw_even_after_an_error() -> None:
    net = nn.Linear(3, 1)
    within: list[bool] = []

    def interrupted() -> None:
        with frozen(net):
            within.extend(p.requires_grad for p in net.parameters())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert within == [False, False]
    assert all(p.requires_grad for p in net.parameters())
