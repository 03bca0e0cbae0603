"""Recorded operations give the bits of the function that was recorded, or are not used."""

from __future__ import annotations

import gc
import logging
import resource
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.serving.convolutions import Conv2d, as_in_company, differing
from models.serving.packed import PackedConv2d
from models.serving.traced import recorded
from tests.models.zoo import ZOO, tiny_model


class Counted(nn.Module):
    """A small network that counts its calls: what was recorded does not call it."""

    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = layer or Conv2d(1, 4, 3, padding=1)
        self.requires_grad_(False)
        self.calls = 0

    def forward(self, y: Tensor, c: Tensor) -> Tensor:
        self.calls += 1
        h = F.silu(self.layer(y)) * c[:, :, None, None]
        return h.reshape(h.shape[0], -1).sum(1)


def example(rows: int = 1) -> tuple[Tensor, Tensor]:
    y = torch.linspace(-1, 1, rows * 36).view(rows, 1, 6, 6)
    return y, torch.linspace(0.1, 1, rows * 4).view(rows, 4)


def packed() -> PackedConv2d:
    layer = PackedConv2d(torch.randn(4, 1, 3, 3), torch.randn(4), 1, 1)
    layer.pack()
    return layer


@pytest.mark.parametrize("layer", [lambda: None, packed])
def test_values_have_the_same_bits_for_every_number_of_rows(layer: Callable[[], nn.Module | None]) -> None:
    network = Counted(layer())
    run, calls = recorded(network, *example()), network.calls
    found = {n: run(*example(n)) for n in (1, 2, 3, 7, 32)}
    assert network.calls == calls
    for n, values in found.items():
        assert torch.equal(values, network(*example(n)))
        assert len(values) == n


def test_gradients_have_the_same_bits() -> None:
    network = Counted()
    y, c = example()
    run, calls = recorded(network, y.requires_grad_(True), c), network.calls

    def gradient(function: Callable[..., Tensor], n: int) -> Tensor:
        y, c = example(n)
        (found,) = torch.autograd.grad(function(y.requires_grad_(True), c).sum(), y)
        return found

    found = {n: gradient(run, n) for n in (1, 5)}
    assert network.calls == calls
    for n, values in found.items():
        assert values.abs().max() > 0
        assert torch.equal(values, gradient(network, n))


def test_a_gradient_that_was_not_announced_is_not_lost() -> None:
    network = Counted(packed())  # recorded without a gradient it runs on packed weights, which have none
    run = recorded(network, *example())
    y, c = example(2)
    (found,) = torch.autograd.grad(run(y.requires_grad_(True), c).sum(), y)
    assert found.abs().max() > 0
    with torch.no_grad():
        calls = network.calls
        assert torch.equal(run(y, c), run(y.detach(), c))
        assert network.calls == calls


def test_a_row_alone_takes_its_own_path() -> None:
    def function(y: Tensor) -> Tensor:
        return y * 2 if len(y) == 1 else y * 3

    run = recorded(function, torch.ones(1, 2))
    assert [run(torch.ones(n, 2))[0, 0].item() for n in (1, 2, 9)] == [2, 3, 3]


def constant(y: Tensor) -> Tensor:
    return y + len(y)  # is recorded as a number


def stubborn(y: Tensor) -> Tensor:
    return y.view(len(y), 2).cumsum(1)  # does not run with another number of rows


class Untraceable(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            y.view(-1, 1, 1, 2), torch.ones(1, 1, 1, 1), None, [0, 0], [1, 1], [1, 1], 1, "none", [], ""
        ).view(-1, 2)


@pytest.mark.parametrize("function", [constant, stubborn, Untraceable()])
def test_what_cannot_be_recorded_runs_as_it_is(
    function: Callable[..., Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        run = recorded(function, torch.ones(1, 2))
    assert run is function
    assert "operation by operation" in caplog.text
    assert torch.equal(run(torch.ones(4, 2)), function(torch.ones(4, 2)))


def test_convolutions_that_need_care_get_it() -> None:
    network = Counted()
    run = recorded(network, *example())

    def calls(rows: int) -> int:
        before = network.calls
        run(*example(rows))
        return network.calls - before

    with as_in_company(frozenset({"conv 4x1x3x3 on 1x6x6"})):
        assert [calls(n) for n in (1, 2)] == [1, 0]  # only a lone row is corrected
    with differing():
        assert [calls(n) for n in (1, 2)] == [1, 1]
    assert [calls(n) for n in (1, 2)] == [0, 0]


def test_a_call_waits_for_the_interpreter_once() -> None:
    network = nn.Sequential(*(Conv2d(4, 4, 3, padding=1) for _ in range(40))).requires_grad_(False)
    run = recorded(network, torch.zeros(1, 4, 64, 64))
    rows, stop = torch.zeros(16, 4, 64, 64), threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            pass

    def waits() -> int:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        run(rows)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        found = sorted(waits() for _ in range(9))
    finally:
        stop.set()
        busy.join()
    assert found[4] < 8  # once, perhaps in several naps; there are 81 tensors


def test_two_threads_at_a_time_get_their_own_results() -> None:
    network = Counted()
    run = recorded(network, *example())
    expected = {n: network(*example(n)) for n in (1, 2, 3, 4)}
    wrong: list[int] = []

    def repeat(n: int) -> None:
        wrong.extend(n for _ in range(200) if not torch.equal(run(*example(n)), expected[n]))

    threads = [threading.Thread(target=repeat, args=[n]) for n in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_models_are_recorded_side_by_side() -> None:
    before = list(warnings.filters)
    networks = [Counted(Conv2d(1, 4, 3, padding=1) if k % 2 else packed()) for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda network: recorded(network, *example()), networks))
    for run, network in zip(runs, networks, strict=True):
        assert run is not network
        assert torch.equal(run(*example(4)), network(*example(4)))
    assert warnings.filters == before


@pytest.mark.parametrize("kind", ["module", "function"])
def test_a_model_that_is_dropped_leaves_nothing_behind(kind: str) -> None:
    """Models come and go as long as a worker runs."""

    def record() -> None:
        network = nn.Linear(1024, 1024).requires_grad_(False)  # 4 MiB
        function = network if kind == "module" else lambda y: F.linear(y, network.weight)
        recorded(function, torch.ones(1, 1024))(torch.ones(3, 1024))

    record()
    gc.collect()
    before = resident_mib()
    for _ in range(25):
        record()
    gc.collect()
    assert resident_mib() - before < 40  # of 100


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@pytest.mark.parametrize("name", ZOO)
def test_every_system_is_recorded(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tiny_model(name)
    assert "operation by operation" not in caplog.text
