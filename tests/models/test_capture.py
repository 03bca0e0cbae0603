"""What a captured iteration is made of, run as it is on a CPU."""

from __future__ import annotations

import torch
from torch import nn

from models.networks.flow.steps import Mixing, solved
from models.training.capture import Replayed
from models.training.learner import Learner

CPU = torch.device("cpu")


def test_on_a_cpu_a_procedure_is_called_as_it_is() -> None:
    count = torch.zeros(())
    procedure = Replayed(lambda: count.add_(1), CPU)
    assert [float(procedure()) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert not procedure.captured


def learner(*, captured: bool) -> Learner[nn.Linear]:
    torch.manual_seed(1)
    return Learner("net", nn.Linear(3, 2), lambda k: 0.1, betas=(0.5, 0.9), decay=0.5, captured=captured)


def test_an_update_that_may_be_captured_is_the_same_and_changes_nothing_without_leave() -> None:
    plain, kept = learner(captured=False), learner(captured=True)
    for leave, rate in ((True, 0.1), (False, 0.1), (True, 0.05)):
        for one in (plain, kept):
            before = one.state()
            one.schedule(rate)
            one.backward(one.network(torch.ones(4, 3)).square().sum())
            one.apply(one.norm(), 1.0, torch.tensor(leave))
            same = all(torch.equal(before[k], v) for k, v in one.state().items() if k.startswith("net.") and before)
            assert same is not leave
    for name, value in plain.state().items():
        torch.testing.assert_close(kept.state()[name], value, atol=1e-6, rtol=1e-5)


def test_moments_are_taken_over_where_they_are() -> None:
    one = learner(captured=True)
    fresh = one.state()
    one.backward(one.network(torch.ones(4, 3)).square().sum())
    one.apply(one.norm(), 1.0, torch.tensor(True))
    later, places = one.state(), [v.data_ptr() for s in one.optimizer.state.values() for v in s.values()]
    one.load_state(fresh)
    assert all(float(value.abs().max()) == 0 for value in one.moments().values())
    one.load_state(later)
    assert all(torch.equal(later[name], value) for name, value in one.state().items())
    assert places == [v.data_ptr() for s in one.optimizer.state.values() for v in s.values()]


def test_mixings_that_are_solved_together_give_the_same_numbers_and_gradients() -> None:
    torch.manual_seed(2)
    flow = nn.ModuleList([Mixing(4), Mixing(2), Mixing(4)])
    x = torch.randn(3, 4, 5, 5)

    def passes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        flow.zero_grad()
        y, volume = flow[0](x)
        (y.square().sum() + volume).backward()
        gradient = flow[0].weight.grad
        assert gradient is not None
        return flow[0].inverse(y.detach()), volume.detach(), gradient.clone()

    with torch.no_grad():
        flow[0].weight.add_(0.1 * torch.randn(4, 4))
    plain = passes()
    with solved(flow):
        found = passes()
    for a, b in zip(found, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0], x, atol=1e-5, rtol=0)
    with torch.no_grad():
        flow[0].weight.mul_(2)  # what was solved before holds no longer, and is not used
    assert passes()[1] > plain[1]
