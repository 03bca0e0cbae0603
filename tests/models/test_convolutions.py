"""A library that treats some convolutions of one row in another way, and what is done about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.loop import Kernel, Loop, Rows, Task
from models.core.noise import Noise
from models.samplers.langevin import langevin
from models.serving import convolutions
from models.serving.convolutions import Conv2d, ConvTranspose2d, as_in_company, conv2d, differing
from workers.engine.engine import Engine
from workers.engine.exact import agreement, candidate_sizes

ODD, PLAIN = torch.randn(8, 3, 3, 3), torch.randn(4, 8, 3, 3)
NAME = "conv 8x3x3x3 on 3x6x6"
FORMAL = [(1, "conv"), (2, "conv"), (1, "transposed"), (3, "transposed")]


@pytest.fixture
def fickle(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The convolution of a single dense row by ``ODD`` has other bits; how many rows it had is noted."""
    sizes: list[int] = []

    def wrapped(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(x: Tensor, weight: Tensor, *rest: object) -> Tensor:
            y = plain(x, weight, *rest)
            if weight is not ODD:
                return y
            sizes.append(-1 if x.is_mkldnn else len(x))
            return y * (1 + 1e-6) if sizes[-1] == 1 else y

        return call

    monkeypatch.setattr(convolutions.F, "conv2d", wrapped(F.conv2d))
    return sizes


def value(rows: Rows) -> Tensor:
    return conv2d(F.silu(conv2d(rows["y"], ODD, None, 1, 1)), PLAIN).square().sum((1, 2, 3))


KERNEL: Kernel = langevin(value)


def rows(n: int) -> Rows:
    one = torch.ones(n, 1, 1, 1)
    return {"y": torch.randn(n, 3, 6, 6), "eta": one * 0.1, "rho": one * 0, "tau": one * 0}


@pytest.mark.parametrize(("n", "kind"), FORMAL)
def test_layers_are_those_of_torch(n: int, kind: str) -> None:
    x = torch.randn(n, 3, 8, 8)
    if kind == "conv":
        own: torch.nn.Module = Conv2d(3, 5, 4, 2, 1)
        theirs: torch.nn.Module = torch.nn.Conv2d(3, 5, 4, 2, 1)
    else:
        own, theirs = ConvTranspose2d(3, 5, 3, 2, 1, 1), torch.nn.ConvTranspose2d(3, 5, 3, 2, 1, 1)
    theirs.load_state_dict(own.state_dict())
    assert torch.equal(own(x), theirs(x))


@pytest.mark.parametrize("layer", [Conv2d(3, 64, 3, 1, 1), ConvTranspose2d(3, 64, 4, 2, 1)])
def test_a_correction_changes_no_more_than_bits(layer: torch.nn.Module) -> None:
    x = torch.randn(5, 3, 8, 8)

    def both(part: Tensor) -> tuple[Tensor, Tensor]:
        part = part.clone().requires_grad_()
        y = layer(part)
        return y.detach(), torch.autograd.grad(y.square().sum(), part)[0]

    kind = "conv" if isinstance(layer, Conv2d) else "transposed"
    kernel = "x".join(map(str, layer.weight.shape))
    company = both(x)
    with as_in_company(frozenset({f"{kind} {kernel} on 3x8x8"})):
        alone = both(x[:1])
    for together, single in zip(company, alone, strict=True):
        torch.testing.assert_close(together[:1], single)


def test_convolutions_that_differ_alone_are_found(fickle: list[int]) -> None:
    with differing() as found:
        value(rows(4))
    assert NAME in found
    assert all(name.startswith("conv ") for name in found)
    fickle.clear()
    value(rows(4))
    assert fickle == [4]  # outside the block nothing is tried


def test_they_are_given_the_bits_that_a_row_has_in_company(fickle: list[int]) -> None:
    together = rows(4)
    alone = {name: v[:1] for name, v in together.items()}
    index, noise = torch.zeros(4), Noise([])
    with differing() as found:
        after = KERNEL(together, index, noise)["y"][:1]
    assert not torch.equal(KERNEL(alone, index[:1], noise)["y"], after)
    with as_in_company(frozenset(found)):
        assert torch.equal(KERNEL(alone, index[:1], noise)["y"], after)


def test_so_a_kernel_agrees_at_one_row(fickle: list[int]) -> None:
    found = agreement(KERNEL, rows(1), candidate_sizes(8))
    assert found.sizes[0] == 1
    assert NAME in found.corrected


def test_what_else_differs_alone_is_padded(fickle: list[int]) -> None:
    def odd_besides(state: Rows, t: Tensor, noise: Noise) -> Rows:
        after = KERNEL(state, t, noise)
        return {**after, "y": after["y"] + (1e-3 if len(t) == 1 else 0)}

    found = agreement(odd_besides, rows(1), candidate_sizes(8))
    assert found.sizes[0] == 2
    assert not found.corrected


def test_the_engine_corrects_a_row_that_is_alone_and_pads_none(fickle: list[int]) -> None:
    def task(n: int) -> Task[Tensor]:
        after = yield Loop(KERNEL, {k: v[:n] for k, v in start.items()}, steps=2, seeds=list(range(n)))
        return after["y"]

    start = rows(3)
    engine = Engine(max_rows=8)
    engine.pad_to({KERNEL: agreement(KERNEL, rows(1), candidate_sizes(8))})
    fickle.clear()
    engine.start()
    try:
        alone, company = engine.submit(task(1)).result(), engine.submit(task(3)).result()
    finally:
        engine.stop()
    assert torch.equal(alone, company[:1])
    assert fickle == [-1, -1, 3, 3]
