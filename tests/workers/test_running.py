"""How steps are run: replayed from graphs, in parts that fit, and what a broken device does to an engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from models.core.loop import Kernel, Loop, Rows, run
from models.core.noise import Noise, streams
from models.samplers.langevin import langevin
from tests.workers.recording import RecordingLane
from workers.engine.engine import DeviceLostError, Engine
from workers.engine.lanes import PlainLane
from workers.engine.memory import advance_within
from workers.engine.running import GRAPH_STEPS, Eager, Graphs
from workers.engine.tickets import StoppedError

WEIGHT = torch.linspace(-1, 1, 9).view(1, 1, 3, 3)
GAVE_UP = 20.0


def value(rows: Rows) -> torch.Tensor:
    """A small network that is differentiated in each step."""
    return torch.conv2d(rows["y"], WEIGHT, padding=1).tanh().flatten(1).sum(1)


CHAIN = langevin(value)


def swapped(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """Hands its tensors round, as HMC does: a graph must not write over what it still reads."""
    return {"a": rows["b"], "b": rows["a"], "sum": rows["sum"] + t + rows["a"], "same": rows["same"]}


def numbers(n: int, tau: float = 0.1) -> Rows:
    one = torch.ones(n, 1, 1, 1)
    y = torch.linspace(-1, 1, n * 16).view(n, 1, 4, 4)
    return {"y": y, "eta": one * 0.1, "rho": one * 0.01, "tau": one * tau}


def pair(n: int) -> Rows:
    a = torch.arange(n)
    return {"a": a, "b": a * 10, "sum": a * 0, "same": a}


def propose(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {**rows, "y": noise.normal(1, 4, 4)}


def asking(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """A kernel that asks the device for a number."""
    return {**rows, "y": rows["y"] + 1} if bool((rows["y"] > -GAVE_UP).all()) else rows


def equal(a: Rows, b: Rows) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("kernel", "start"), [(CHAIN, numbers(3)), (swapped, pair(3))])
def test_replayed_steps_are_the_steps_bit_for_bit(kernel: Kernel, start: Rows) -> None:
    """Whatever was handed out stays as it was, and what the kernel does not touch is passed on."""
    lane = RecordingLane()
    eager, graphs = Eager(lane), Graphs(lane)
    keys, at = streams([1, 2, 3], 0), torch.tensor([0, 4, 9])
    mine, its, seen = start, start, []
    for count in (1, 3, 10, 2):
        mine, its = eager.advance(kernel, mine, at, keys, count), graphs.advance(kernel, its, at, keys, count)
        at = at + count
        assert equal(mine, its)
        seen.append((mine, its))
    assert all(equal(*both) for both in seen)
    untouched = {"same"} if kernel is swapped else start.keys() - {"y"}
    assert all(its[name] is start[name] for name in untouched)
    assert (lane.recorded, lane.replayed) == (1, 15)
    # Another batch of the same kind comes between.
    other = {name: value * 2 for name, value in start.items()}
    assert equal(graphs.advance(kernel, other, at, keys, 5), eager.advance(kernel, other, at, keys, 5))
    assert equal(graphs.advance(kernel, its, at, keys, 5), eager.advance(kernel, mine, at, keys, 5))
    assert lane.recorded == 1


def test_a_graph_gives_names_that_its_kernel_adds() -> None:
    graphs, keys, at = Graphs(RecordingLane()), streams([1, 2], 0), torch.tensor([0, 0])
    rows = {"c": torch.ones(2, 1)}
    first, second, third = (graphs.advance(propose, rows, at + k, keys, 1) for k in (0, 0, 1))
    assert equal(first, second)
    assert not torch.equal(second["y"], third["y"])
    assert third["c"] is rows["c"]


def test_a_kernel_that_asks_the_host_runs_as_it_is_written(caplog: pytest.LogCaptureFixture) -> None:
    lane = RecordingLane()
    graphs, rows, keys, at = Graphs(lane), {"y": torch.zeros(2, 1)}, streams([1, 2], 0), torch.tensor([0, 0])
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            rows = graphs.advance(asking, rows, at, keys, 2)
    assert rows["y"].tolist() == [[8.0], [8.0]]
    assert lane.recorded == 0
    assert [r.message for r in caplog.records if "asking is not recorded" in r.message]
    assert len(caplog.records) == 1


def test_graphs_of_a_model_that_was_unloaded_are_recorded_anew() -> None:
    lane = RecordingLane()
    graphs, rows, keys, at = Graphs(lane), numbers(1), streams([1], 0), torch.tensor([0])
    for _ in range(3):
        graphs.advance(CHAIN, rows, at, keys, 1)
    assert lane.recorded == 1
    graphs.forget([CHAIN])
    for _ in range(3):
        graphs.advance(CHAIN, rows, at, keys, 1)
    assert lane.recorded == 2


def test_of_too_many_graphs_the_one_used_least_recently_leaves() -> None:
    """Whatever shapes clients ask for, the device holds a bounded number of graphs."""
    lane = RecordingLane()
    room = 3
    graphs, eager = Graphs(lane, room), Eager(lane)

    def use(n: int) -> None:
        keys, at = streams(range(n), 0), torch.zeros(n, dtype=torch.int64)
        assert equal(graphs.advance(CHAIN, numbers(n), at, keys, 2), eager.advance(CHAIN, numbers(n), at, keys, 2))

    for n in (1, 2, 3, 1, 2, 3):
        use(n)
    assert (lane.recorded, lane.held) == (3, 3)
    use(1)
    use(4)  # 2 leaves for it
    for n in (4, 1, 3):
        use(n)
    assert (lane.recorded, lane.held) == (4, 3)
    use(2)
    use(2)
    assert (lane.recorded, lane.held) == (5, 3)
    for n in range(5, 30):
        use(n)
        use(n)
        assert lane.held <= room


class Narrow:
    """A kernel for which memory is short beyond so many rows, and for one of them always."""

    def __init__(self, most: int, huge: int | None = None) -> None:
        self.most, self.huge, self.sizes = most, huge, list[int]()

    def __call__(self, rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        if len(t) > self.most or self.huge in rows["id"].tolist():
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.sizes.append(len(t))
        return {**rows, "x": rows["x"] + noise.normal(2)}


def narrow_rows(n: int, first: int = 0) -> Rows:
    return {"id": torch.arange(first, first + n), "x": torch.zeros(n, 2)}


def test_a_batch_that_does_not_fit_is_run_in_halves() -> None:
    kernel, keys, at = Narrow(3), streams(range(13), 0), torch.zeros(13, dtype=torch.int64)
    lane = RecordingLane()
    whole = Narrow(99)(narrow_rows(13), at, Noise.at(keys, at))
    rows = narrow_rows(13)
    after, limit = advance_within(Eager(lane), kernel, rows, at, keys, 1)
    assert equal(after, whole)
    assert after["id"] is rows["id"]
    assert (limit, kernel.sizes, lane.released) == (3, [3] * 5, 2)
    after, limit = advance_within(Eager(lane), kernel, rows, at, keys, 1, limit=limit)
    assert (limit, kernel.sizes[5:], lane.released) == (3, [3] * 5, 2)


def test_halves_have_sizes_that_agree() -> None:
    kernel, keys, at = Narrow(5), streams(range(12), 0), torch.zeros(12, dtype=torch.int64)
    _, limit = advance_within(Eager(PlainLane()), kernel, narrow_rows(12), at, keys, 1, sizes=(1, 4, 12))
    assert (limit, kernel.sizes) == (4, [4, 4, 4])


@contextmanager
def engine_of(lane: Any, max_rows: int = 8, on_failure: Callable[[Exception], None] | None = None) -> Iterator[Engine]:
    engine = Engine(max_rows, lane=lane, on_failure=on_failure)
    engine.start()
    yield engine
    engine.stop()
    assert not engine.is_alive()


def chained(kernel: Kernel, rows: Rows, steps: int, seed: int) -> Any:
    n = len(next(iter(rows.values())))
    rows = yield Loop(kernel, rows, steps, [seed + k for k in range(n)], "chain", lambda rows: rows["y"])
    return (yield Loop(kernel, rows, 2, range(n), "end"))


def test_an_engine_with_graphs_gives_each_job_what_it_gets_alone() -> None:
    """Jobs of other lengths and noises join, leave and are shown at their own steps."""
    lane = RecordingLane()
    jobs = [(1 + k % 3, 3 + 11 * k, 0.1 * (k % 2)) for k in range(7)]

    def task(k: int) -> Any:
        n, steps, tau = jobs[k]
        rows = numbers(n, tau)
        return chained(CHAIN, rows if tau else {name: v for name, v in rows.items() if name != "tau"}, steps, k)

    with engine_of(lane) as engine:
        tickets = [engine.submit(task(k), preview_every=4) for k in range(len(jobs))]
        for k, ticket in enumerate(tickets):
            shown = list(ticket.previews())
            torch.testing.assert_close(ticket.result(), run(task(k)), atol=1e-5, rtol=0)
            assert [preview.step for preview in shown] == list(range(0, jobs[k][1], 4))
        assert lane.recorded > 1
        assert lane.replayed > engine.steps / 2


def test_steps_between_two_looks_are_taken_at_once() -> None:
    """And never beyond the step at which a row leaves."""
    lane = RecordingLane()
    with engine_of(lane) as engine:
        engine.submit(chained(CHAIN, numbers(1), 4 * GRAPH_STEPS + 3, 1)).result()
        assert engine.steps == 4 * GRAPH_STEPS + 5
        assert lane.awaited <= 5 + 1 + 2  # one for each call but the last, and those for the result


def test_only_a_row_that_does_not_fit_alone_fails() -> None:
    kernel = Narrow(2, huge=5)
    with engine_of(PlainLane()) as engine:

        def task(n: int, first: int) -> Any:
            return (yield Loop(kernel, narrow_rows(n, first), 6, range(n)))

        good, bad, other = (engine.submit(task(*job)) for job in ((3, 0), (3, 3), (2, 10)))
        with pytest.raises(torch.OutOfMemoryError):
            bad.result()
        for ticket, job in ((good, (3, 0)), (other, (2, 10))):
            alone = run((lambda n, first: (yield Loop(Narrow(99), narrow_rows(n, first), 6, range(n))))(*job))
            assert equal(ticket.result(), alone)


class Tight(torch.Tensor):
    """Numbers of which more than three rows can't be put together."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.cat and sum(len(part) for part in args[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_rows_for_which_there_is_no_memory_wait() -> None:
    """Those of a batch go on, and others join when they have left."""

    def moved(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        return {**rows, "x": rows["x"] + 1}

    def task(rows: int, steps: int) -> Any:
        return (yield Loop(moved, {"x": torch.zeros(rows, 2).as_subclass(Tight)}, steps, range(rows)))

    with engine_of(PlainLane()) as engine:
        tickets = [engine.submit(task(rows, steps)) for rows, steps in ((2, 9), (3, 4), (1, 20))]
        for ticket, (rows, steps) in zip(tickets, ((2, 9), (3, 4), (1, 20)), strict=True):
            assert torch.equal(ticket.result()["x"].as_subclass(torch.Tensor), torch.full((rows, 2), float(steps)))


def test_a_lost_device_ends_the_engine_and_fails_nobody() -> None:
    """Its tasks are told that it has stopped: they go on elsewhere, from what was saved last."""
    lane, told = RecordingLane(), list[Exception]()

    def failing(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        if (t >= 5).any():
            lane.fault = "CUDA error: an illegal memory access was encountered"
            raise torch.AcceleratorError(lane.fault)
        return {**rows, "y": rows["y"] + 1}

    with engine_of(lane, on_failure=told.append) as engine:
        tickets = [engine.submit(chained(failing, numbers(1), 50, k)) for k in range(3)]
        for ticket in tickets:
            with pytest.raises(StoppedError):
                ticket.result()
        assert isinstance(told[0], DeviceLostError)
        assert "illegal memory access" in str(told[0])
    assert len(told) == 1


def test_an_error_of_a_kernel_is_not_taken_for_one_of_the_device() -> None:
    def failing(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        raise ValueError("a mistake in a kernel")

    with engine_of(RecordingLane()) as engine:
        with pytest.raises(ValueError, match="a mistake"):
            engine.submit(chained(failing, numbers(1), 5, 1)).result()
        assert equal(engine.submit(chained(CHAIN, numbers(1), 5, 1)).result(), run(chained(CHAIN, numbers(1), 5, 1)))


def test_a_chain_that_stopped_between_replays_goes_on_with_the_same_bits() -> None:
    with engine_of(RecordingLane()) as engine:
        ticket = engine.submit(chained(CHAIN, numbers(2), 1000, 1))
        while ticket.step < 20:
            time.sleep(0.001)
    with pytest.raises(StoppedError) as stopped:
        ticket.result()
    chain = stopped.value.chain
    assert chain is not None
    assert 20 <= chain.steps[0] < 1000
    with engine_of(PlainLane()) as other:
        again = other.submit(chained(CHAIN, numbers(2), 1000, 1), resume=chain)
        assert equal(again.result(), run(chained(CHAIN, numbers(2), 1000, 1)))
