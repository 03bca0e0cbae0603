"""Searches of CoopFlow beside images that are generated: fair turns, and the same bytes after a stop anywhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from models.core.loop import Kernel, Loop, Rows, Task, run
from models.core.noise import Noise
from models.core.output import Output
from models.systems.coopflow.model import CoopFlow
from tests.models.zoo import job, tiny_model
from workers.chains.chain import decode, encode
from workers.engine.engine import Engine
from workers.engine.tickets import StoppedError


def kernels() -> CoopFlow:
    found = tiny_model("coopflow").kernels
    assert isinstance(found, CoopFlow)
    return found


def start(task: str, **changes: Any) -> Task[Output]:
    return tiny_model("coopflow").start(task, job("coopflow", task, **changes))


class Watched:
    """Kernels that call back before they run; each is one object, so that rows of several tasks share batches."""

    def __init__(self, called: Callable[[Kernel], None]) -> None:
        self._called = called
        self._known: dict[Kernel, Kernel] = {}

    def task(self, task: Task[Output]) -> Task[Output]:
        rows: Rows | None = None
        while True:
            try:
                loop: Loop = next(task) if rows is None else task.send(rows)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            rows = yield replace(loop, kernel=self._of(loop.kernel))

    def _of(self, kernel: Kernel) -> Kernel:
        def watched(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
            self._called(kernel)
            return kernel(rows, t, noise)

        return self._known.setdefault(kernel, watched)


@contextmanager
def running(max_rows: int) -> Iterator[Engine]:
    engine = Engine(max_rows)
    engine.start()
    yield engine
    engine.stop()


def test_searches_that_fill_their_batches_never_keep_images_waiting() -> None:
    """Between two steps of the images every other kernel has a turn at most, and the searches end long after them."""
    calls: list[Kernel] = []
    watched, gate = Watched(calls.append), threading.Event()

    def hold() -> Task[Any]:
        def wait(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
            assert gate.wait(10)
            return rows

        return (yield Loop(wait, {"x": torch.zeros(1)}, 1, [0]))

    with running(max_rows=4) as engine:
        engine.submit(hold())
        searches = [
            engine.submit(watched.task(start(task, n=2, seed=k, steps=6, options={"iterations": 3})))
            for k, task in enumerate(["inpaint", "reconstruct"] * 2)
        ]
        images = engine.submit(watched.task(start("generate", n=4, steps=12)))
        gate.set()
        for ticket in (images, *searches):
            ticket.result()
    steps = [place for place, kernel in enumerate(calls) if kernel is kernels().refine]
    assert len(steps) == 12
    halves = {kernels().forward, kernels().backward}
    proposed = max(place for place, kernel in enumerate(calls) if kernel is kernels().propose)
    for before, after in pairwise([proposed, *steps]):
        between = calls[before + 1 : after]
        assert len(between) == len(set(between))
        assert before == proposed or halves & set(between)
    assert sum(kernel in halves for kernel in calls[: steps[-1]]) >= 12
    assert sum(kernel in halves for kernel in calls[steps[-1] :]) > 12


def stopped_at(call: int, begin: Callable[[], Task[Output]]) -> Any:
    """The chain of a search whose engine is stopped in the n-th call of its kernels, on its way through a file."""
    reached, go, left = threading.Event(), threading.Event(), [call]

    def brake(kernel: Kernel) -> None:
        left[0] -= 1
        if not left[0]:
            reached.set()
            assert go.wait(10)

    with running(max_rows=2) as engine:
        ticket = engine.submit(Watched(brake).task(begin()))
        assert reached.wait(10)
        stop = threading.Thread(target=engine.stop)
        stop.start()
        time.sleep(0.02)
        go.set()
        stop.join()
    with pytest.raises(StoppedError) as stopped:
        ticket.result()
    assert stopped.value.chain is not None
    return decode(encode(stopped.value.chain))


@pytest.mark.parametrize(
    ("task", "call", "name"), [("reconstruct", 8, "iteration 1 of 3, back"), ("inpaint", 12, "iteration 2 of 3")]
)
def test_a_search_that_is_stopped_in_either_half_ends_with_the_same_bytes(task: str, call: int, name: str) -> None:
    def begin() -> Task[Output]:
        return start(task, n=2)

    chain = stopped_at(call, begin)
    assert (chain.name, set(chain.steps)) == (name, {3})
    expected = run(begin())
    with running(max_rows=2) as engine:
        found = engine.submit(begin(), resume=chain).result()
    assert found.numbers == expected.numbers
    assert _same([found.images, found.energy], [expected.images, expected.energy])


def _same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(a, b, strict=True))
