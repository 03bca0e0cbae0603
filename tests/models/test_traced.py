"""A traced function is one call with the numbers of the function, or is not used."""

from __future__ import annotations

import gc
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.serving import served


class Counted(nn.Module):
    """A small network that counts its calls: what is traced does not call it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 4, 3, padding=1)
        self.requires_grad_(False)
        self.calls = 0

    def forward(self, y: Tensor, c: Tensor) -> Tensor:
        self.calls += 1
        h = F.silu(self.layer(y)) * c[:, :, None, None]
        return h.reshape(len(h), -1).sum(1) * torch.ones(len(h))


def example(rows: int = 1) -> tuple[Tensor, Tensor]:
    y = torch.linspace(-1, 1, rows * 36).view(rows, 1, 6, 6)
    return y, torch.linspace(0.1, 1, rows * 4).view(rows, 4)


def test_a_traced_network_is_not_called_any_more() -> None:
    network = Counted()
    run = served(network, *example())
    run(*example())
    calls = network.calls
    found = {n: run(*example(n)) for n in (1, 2, 3, 7, 32)}
    assert network.calls == calls
    for n, values in found.items():
        torch.testing.assert_close(values, network(*example(n)))
        assert len(values) == n


def test_rows_of_another_shape_are_served_as_well() -> None:
    network = Counted()
    run = served(network, *example())
    y = torch.linspace(-1, 1, 2 * 64).view(2, 1, 8, 8)
    assert torch.equal(run(y, example(2)[1]), network(y, example(2)[1]))


def grows(y: Tensor) -> Tensor:
    return y + len(y)  # differs from row count to row count


def branches(y: Tensor) -> Tensor:
    return y * 2 if len(y) < 3 else (y + y).relu()


def in_place(y: Tensor) -> Tensor:
    return y.clone().relu_()


@pytest.mark.parametrize("function", [branches, in_place])
def test_what_can_not_be_traced_runs_as_it_is_written_with_one_warning(
    function: Callable[..., Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    run = served(function, torch.ones(1, 2))
    found = [run(torch.ones(4, 2)) for _ in range(3)]
    warned = [record for record in caplog.records if "operation by operation" in record.message]
    assert len(warned) == 1
    assert all(torch.equal(values, function(torch.ones(4, 2))) for values in found)


def test_a_number_that_grows_with_the_rows_is_traced() -> None:
    run = served(grows, torch.ones(1, 2))
    assert [run(torch.ones(n, 2))[0, 0].item() for n in (1, 2, 9)] == [2, 3, 10]


def test_a_call_waits_for_the_interpreter_once() -> None:
    network = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(40))).requires_grad_(False)
    run = served(network, torch.zeros(1, 4, 64, 64))
    rows, stop = torch.zeros(16, 4, 64, 64), threading.Event()
    run(rows)

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


def test_threads_that_share_a_function_get_their_own_results() -> None:
    network = Counted()
    run = served(network, *example())  # traced by whichever comes first
    expected = {n: network(*example(n)) for n in (1, 2, 3, 4)}
    wrong: list[int] = []

    def repeat(n: int) -> None:
        wrong.extend(n for _ in range(200) if not torch.allclose(run(*example(n)), expected[n], rtol=1e-4))

    threads = [threading.Thread(target=repeat, args=[n]) for n in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_models_are_traced_side_by_side() -> None:
    networks = [Counted() for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda network: served(network, *example())(*example(4)), networks))
    for values, network in zip(found, networks, strict=True):
        torch.testing.assert_close(values, network(*example(4)))


@pytest.mark.parametrize("kind", ["module", "function"])
def test_a_model_that_is_dropped_leaves_nothing_behind(kind: str) -> None:
    """Models come and go as long as a worker runs."""

    def trace() -> None:
        network = nn.Linear(1024, 1024).requires_grad_(False)  # 4 MiB
        function = network if kind == "module" else lambda y: F.linear(y, network.weight)
        served(function, torch.ones(1, 1024))(torch.ones(3, 1024))

    trace()
    gc.collect()
    before = resident_mib()
    for _ in range(25):
        trace()
    gc.collect()
    assert resident_mib() - before < 40  # of 100


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
