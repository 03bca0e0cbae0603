"""The engine: joining, leaving, cancelling, failing, priorities and previews."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from models.core.loop import Loop, Rows, RowsError, run
from models.core.noise import Noise
from workers.chains.chain import decode, encode
from workers.engine.engine import Engine
from workers.engine.policy import Policy
from workers.engine.tickets import CancelledError, Preview, StoppedError


def walk(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """A random walk that also counts and sums its step indices."""
    x = rows["x"] + noise.normal(3) + 0 * rows["poison"]
    return {"x": x, "sum": rows["sum"] + t[:, None], "poison": rows["poison"]}


def fragile(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """As ``walk``, but raises if any row is poisoned."""
    if bool((rows["poison"] == 1).any()):
        raise RuntimeError("a poisoned row")
    return walk(rows, t, noise)


class Gate:
    """A kernel that waits, so that tests decide when the engine goes on."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []

    def __call__(self, rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        self.entered.set()
        assert self.open.wait(10)
        self.batches.append(len(t))
        return walk(rows, t, noise)


def state(n: int, poison: float = 0.0) -> Rows:
    return {
        "x": torch.zeros(n, 3),
        "sum": torch.zeros(n, 1, dtype=torch.int64),
        "poison": torch.full((n, 1), poison),
    }


def task(  # type: ignore[no-untyped-def]
    steps: int, seed: int = 0, n: int = 1, kernel: Callable[..., Rows] = walk, poison: float = 0.0
):
    rows = yield Loop(kernel, state(n, poison), steps, [seed + k for k in range(n)], "walk", lambda rows: rows["x"])
    rows = yield Loop(kernel, rows, 2, [seed + k for k in range(n)], "end")
    return rows


@contextmanager
def started(threads: int, max_rows: int = 4) -> Iterator[Engine]:
    engine = Engine(max_rows, threads=threads)
    engine.start()
    yield engine
    engine.stop()
    assert not engine.is_alive()


@pytest.fixture(params=[1, 3])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """What is asked of an engine of any number of threads."""
    with started(request.param) as engine:
        yield engine


@pytest.fixture
def single() -> Iterator[Engine]:
    """An engine of one thread: its batches can be foretold."""
    with started(1) as engine:
        yield engine


def equal(a: Rows, b: Rows) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def poisoned(steps: int, poison: list[float], bound: float | None = None, kernel: Callable[..., Rows] = walk) -> Any:
    """A job whose rows are poisoned each by itself, in two loops; it tells how its rows are in between."""
    n = len(poison)
    start = {**state(n), "poison": torch.tensor(poison)[:, None]}
    rows = yield Loop(kernel, start, steps, range(n), "walk")
    y = {"y": rows["x"][:, :, None] + 100 * (rows["poison"] == 2)[:, :, None], **rows}
    rows = yield Loop(lambda rows, t, noise: {**rows, "y": rows["y"] * 1}, y, 1, range(n), "end", bound=bound)
    return rows


def test_a_row_that_diverges_does_not_take_the_others_of_its_job_with_it(engine: Engine) -> None:
    nan, inf = float("nan"), float("inf")
    whole = run(poisoned(7, [0.0] * 6))
    tickets = [engine.submit(poisoned(7, [0.0, nan, 2.0, 0.0, inf, 0.0], bound=50.0)) for _ in range(3)]
    for ticket in tickets:
        rows = ticket.result()
        assert [bool(value.isfinite().all()) for value in rows["y"]] == [True, False, False, True, False, True]
        for k in (0, 3, 5):
            assert all(torch.equal(rows[name][k], whole[name][k]) for name in rows)


@pytest.mark.parametrize(("poison", "why"), [(float("nan"), "x is not finite"), (2.0, "left the range of images")])
def test_a_job_fails_when_all_its_rows_have_diverged(engine: Engine, poison: float, why: str) -> None:
    bad, good = engine.submit(poisoned(3, [poison] * 3, bound=50.0)), engine.submit(poisoned(3, [0.0], bound=50.0))
    with pytest.raises(RowsError, match=why):
        bad.result()
    assert good.result()["y"].isfinite().all()
    with pytest.raises(RowsError, match=why):  # alone a task is strict
        run(poisoned(3, [0.0, poison], bound=50.0))


def test_a_chain_with_a_lost_row_goes_on_elsewhere() -> None:
    poison = [0.0, float("nan"), 0.0]
    with started(1) as engine:
        expected = engine.submit(poisoned(5, poison)).result()
        gate = Gate()
        ticket = engine.submit(poisoned(5, poison, kernel=gate))
        assert gate.entered.wait(10)
        engine.stop(0)
        gate.open.set()
        with pytest.raises(StoppedError) as stopped:
            ticket.result()
    chain = decode(encode(stopped.value.chain)) if stopped.value.chain else None
    assert chain is not None
    with started(1) as engine:
        rows = engine.submit(poisoned(5, poison), resume=chain).result()
    assert all(torch.equal(rows[name].nan_to_num(7), expected[name].nan_to_num(7)) for name in rows)


def test_jobs_of_any_length_and_size_end_as_they_do_alone(engine: Engine) -> None:
    cases = [(1 + k % 9, k, 1 + k % 6) for k in range(30)]  # some have more rows than a batch
    tickets = [engine.submit(task(*case)) for case in cases]
    for case, ticket in zip(cases, tickets, strict=True):
        rows = ticket.result()
        assert equal(rows, run(task(*case)))
        assert (rows["sum"] == sum(range(case[0])) + 1).all()
    assert engine.rows_advanced == sum((steps + 2) * n for steps, _, n in cases)


def test_padding_changes_nothing(engine: Engine) -> None:
    engine.pad_to({walk: (2, 4)})
    tickets = [engine.submit(task(3, seed, 3)) for seed in range(5)]
    assert all(equal(ticket.result(), run(task(3, seed, 3))) for seed, ticket in enumerate(tickets))


def test_rows_join_while_others_are_under_way(single: Engine) -> None:
    gate = Gate()
    first = single.submit(task(3, 1, kernel=gate))
    assert gate.entered.wait(10)
    second = single.submit(task(1, 2, n=2, kernel=gate))
    gate.open.set()
    assert equal(first.result(), run(task(3, 1)))
    assert equal(second.result(), run(task(1, 2, n=2)))
    assert gate.batches[0] == 1
    assert max(gate.batches) == 3


def test_a_cancelled_job_leaves_its_neighbours_bits_alone(engine: Engine) -> None:
    gate = Gate()
    cancelled = engine.submit(task(1000, 9, kernel=gate))
    assert gate.entered.wait(10)
    neighbours = [engine.submit(task(50, seed, kernel=gate)) for seed in range(2)]
    cancelled.cancel()
    gate.open.set()
    with pytest.raises(CancelledError):
        cancelled.result()
    assert all(equal(ticket.result(), run(task(50, seed))) for seed, ticket in enumerate(neighbours))
    assert len(gate.batches) < 200


def test_a_job_cancelled_in_the_queue_never_starts(single: Engine) -> None:
    gate = Gate()
    running = single.submit(task(1, n=4, kernel=gate))
    assert gate.entered.wait(10)
    waiting = single.submit(task(1, kernel=gate))
    waiting.cancel()
    gate.open.set()
    with pytest.raises(CancelledError):
        waiting.result()
    assert running.result()
    assert set(gate.batches) == {4}


def test_a_kernel_that_raises_fails_only_the_job_to_blame(engine: Engine) -> None:
    gate = Gate()
    blocker = engine.submit(task(1, kernel=gate))
    assert gate.entered.wait(10)
    good = [engine.submit(task(4, seed, kernel=fragile)) for seed in range(2)]
    bad = engine.submit(task(4, 7, kernel=fragile, poison=1.0))
    gate.open.set()
    with pytest.raises(RuntimeError, match="a poisoned row"):
        bad.result()
    assert all(equal(ticket.result(), run(task(4, seed))) for seed, ticket in enumerate(good))
    assert blocker.result()


def test_a_row_that_is_not_finite_fails_only_its_job(engine: Engine) -> None:
    good = engine.submit(task(5, 1))
    bad = engine.submit(task(5, 2, poison=float("nan")))
    with pytest.raises(RowsError, match="x is not finite"):
        bad.result()
    assert equal(good.result(), run(task(5, 1)))


def test_what_a_kernel_changes_late_or_never_is_given_back_too(engine: Engine) -> None:
    def late(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        after = {**rows, "x": rows["x"] + noise.normal(3)}
        return {**after, "sum": rows["sum"] + (t >= 3)[:, None]} if bool((t >= 3).any()) else after

    kinds = [(2, 1), (6, 3), (3, 2), (9, 6), (4, 1), (1, 5)]  # steps and rows; batches have four rows
    tickets = [engine.submit(task_of_steps(steps, 50 * k, n, late, 0.25)) for k, (steps, n) in enumerate(kinds)]
    for k, ((steps, n), ticket) in enumerate(zip(kinds, tickets, strict=True)):
        rows = ticket.result()
        assert equal(rows, run(task_of_steps(steps, 50 * k, n, late, 0.25)))
        assert rows["sum"].tolist() == [[max(0, steps - 3)]] * n
        assert rows["poison"].tolist() == [[0.25]] * n


def failing_task(where: str):  # type: ignore[no-untyped-def]
    if where == "start":
        raise KeyError("start")
    yield Loop(walk, state(1), 2, [0])
    raise KeyError("end")


@pytest.mark.parametrize("where", ["start", "end"])
def test_an_exception_in_a_task_is_its_own(engine: Engine, where: str) -> None:
    with pytest.raises(KeyError, match=where):
        engine.submit(failing_task(where)).result()
    assert equal(engine.submit(task(2)).result(), run(task(2)))


def test_a_task_that_ends_badly_when_cancelled_does_not_hurt_the_engine(engine: Engine) -> None:
    def stubborn():  # type: ignore[no-untyped-def]
        try:
            yield Loop(walk, state(1), 10_000_000, [0])
        finally:
            raise ValueError("not now")

    ticket = engine.submit(stubborn())
    ticket.cancel()
    with pytest.raises(CancelledError):
        ticket.result()
    assert equal(engine.submit(task(2)).result(), run(task(2)))


def test_urgent_jobs_are_admitted_first(single: Engine) -> None:
    gate, order = Gate(), []

    def named(name: str):  # type: ignore[no-untyped-def]
        yield Loop(gate, state(4), 1, range(4))
        order.append(name)

    blocker = single.submit(named("blocker"))
    assert gate.entered.wait(10)
    tickets = [single.submit(named(name), priority=priority) for name, priority in [("low", 1), ("mid", 5), ("top", 9)]]
    gate.open.set()
    for ticket in [blocker, *tickets]:
        ticket.result()
    assert order == ["blocker", "top", "mid", "low"]


def test_rows_of_owners_enter_in_turn(single: Engine) -> None:
    """Many rows of one owner do not keep out those that come later; an owner's own jobs keep their order."""
    gate, order = Gate(), []

    def named(name: str, rows: int):  # type: ignore[no-untyped-def]
        yield Loop(gate, state(rows), 3, range(rows))
        order.append(name)

    blocker = single.submit(named("blocker", 4), owner="ann")
    assert gate.entered.wait(10)
    jobs = [("huge", 60, "ann"), ("after it", 1, "ann"), ("first", 2, "bob"), ("second", 2, "bob"), ("other", 3, "eve")]
    tickets = [single.submit(named(name, rows), owner=owner) for name, rows, owner in jobs]
    gate.open.set()
    for ticket in [blocker, *tickets]:
        ticket.result()
    assert order == ["blocker", "first", "other", "second", "huge", "after it"]


def test_groups_take_turns(single: Engine) -> None:
    """A long job of one kernel does not hold up a short one of another."""
    turns: list[str] = []

    def kernel(name: str) -> Callable[..., Rows]:
        def step(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
            turns.append(name)
            return rows

        return step

    gate = Gate()
    blocker = single.submit(task(1, kernel=gate))
    assert gate.entered.wait(10)
    long, short = (single.submit(task(steps, kernel=kernel(name))) for steps, name in [(100, "long"), (10, "short")])
    gate.open.set()
    for ticket in (blocker, long, short):
        ticket.result()
    last_short = len(turns) - turns[::-1].index("short")
    assert turns[:last_short].count("long") <= 14


def test_threads_advance_parts_of_a_job_at_the_same_time() -> None:
    meeting, parts = threading.Barrier(2, timeout=10), list[int]()

    def together(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        meeting.wait()  # breaks if the other thread does not come
        parts.append(len(t))
        return walk(rows, t, noise)

    with started(2, max_rows=16) as engine:
        rows = engine.submit(task_of_steps(20, 3, 16, together)).result()
    assert equal(rows, run(task_of_steps(20, 3, 16)))
    assert parts == [8] * 40


def test_a_group_that_is_left_alone_is_divided() -> None:
    """While there are two groups each thread has one; when one group ends, its thread takes half of the other."""
    gates, sizes = {"long": Gate(), "short": Gate()}, list[int]()

    def kernel(name: str) -> Callable[..., Rows]:
        def step(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
            gates[name].entered.set()
            assert gates[name].open.wait(10)
            sizes.extend([len(t)] if name == "long" else [])
            return walk(rows, t, noise)

        return step

    with started(2, max_rows=16) as engine:
        short = engine.submit(task_of_steps(2, 9, 1, kernel("short")))
        assert gates["short"].entered.wait(10)
        long = engine.submit(task_of_steps(200, 3, 16, kernel("long")))
        assert gates["long"].entered.wait(10)
        gates["short"].open.set()
        short.result()
        gates["long"].open.set()
        assert equal(long.result(), run(task_of_steps(200, 3, 16)))
    assert sizes[0] == 16
    assert sizes.count(16) < 10 < 100 < sizes.count(8)


def test_few_rows_are_one_batch_whoever_advances_them() -> None:
    """A call of a kernel for one row costs nearly as much as one for two."""
    gate = Gate()
    with started(2, max_rows=16) as engine:
        first = engine.submit(task_of_steps(40, 1, 2, gate))
        assert gate.entered.wait(10)
        second = engine.submit(task_of_steps(40, 5, 1, gate))
        gate.open.set()
        assert equal(first.result(), run(task_of_steps(40, 1, 2)))
        assert equal(second.result(), run(task_of_steps(40, 5, 1)))
    assert gate.batches == [2] + [3] * 39 + [1]


def test_what_is_left_of_two_batches_becomes_one() -> None:
    sizes = list[int]()

    def kernel(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        sizes.append(len(t))
        return walk(rows, t, noise)

    lengths = [10] * 12 + [300] * 3
    with started(2, max_rows=16) as engine:
        gate = Gate()
        blockers = [engine.submit(task_of_steps(1, 1, 1, gate)) for _ in range(2)]
        assert gate.entered.wait(10)
        tickets = [engine.submit(task_of_steps(n, k, 1, kernel)) for k, n in enumerate(lengths)]
        gate.open.set()
        assert all(blocker.result() for blocker in blockers)
        for k, (n, ticket) in enumerate(zip(lengths, tickets, strict=True)):
            assert equal(ticket.result(), run(task_of_steps(n, k, 1)))
    assert sizes[-100:].count(3) > 80


def test_rows_whose_steps_are_long_are_divided_down_to_one() -> None:
    meeting, parts = threading.Barrier(2, timeout=10), list[int]()

    def slow(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        parts.append(len(t))
        time.sleep(2 * Policy.long_step)
        if len(t) == 1:
            meeting.wait()
        return walk(rows, t, noise)

    with started(2, max_rows=16) as engine:
        rows = engine.submit(task_of_steps(5, 3, 2, slow)).result()
    assert equal(rows, run(task_of_steps(5, 3, 2)))
    assert parts == [2] + [1] * 8


def test_a_poisoned_job_that_is_cancelled_while_it_is_found_out_hurts_nobody() -> None:
    entered, looking = threading.Event(), threading.Event()

    def kernel(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        entered.set()
        assert looking.wait(10)
        return fragile(rows, t, noise)

    gates = Gate(), Gate()
    with started(2) as engine:
        blockers = [engine.submit(task_of_steps(1, 1, 1, gate)) for gate in gates]
        assert all(gate.entered.wait(10) for gate in gates)
        bad = engine.submit(task_of_steps(9, 7, 1, kernel, poison=1.0))
        good = engine.submit(task_of_steps(9, 2, 2, kernel))
        gates[0].open.set()  # its thread takes both jobs in one batch
        assert entered.wait(10)
        bad.cancel()
        gates[1].open.set()  # the other thread takes the cancelled job out
        assert all(blocker.result() for blocker in blockers)
        with pytest.raises(CancelledError):
            bad.result()
        looking.set()
        assert equal(good.result(), run(task_of_steps(9, 2, 2)))
        with pytest.raises(CancelledError):
            bad.result()


def test_a_preview_shows_the_rows_of_all_threads() -> None:
    meeting, met = threading.Barrier(3, timeout=10), threading.local()

    def kernel(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        if not hasattr(met, "once"):  # all have begun before any goes on
            met.once = meeting.wait()
        return walk(rows, t, noise)

    with started(3, max_rows=4) as engine:
        previews = list(engine.submit(task(30, 3, n=12, kernel=kernel), preview_every=10).previews())
    assert [preview.step for preview in previews] == [0, 10, 20]
    for preview in previews:
        assert preview.rows == tuple(range(12))
        assert torch.equal(preview.images, run(task_of_steps(preview.step, 3, 12))["x"])


def test_rows_that_have_not_begun_hold_up_no_preview(single: Engine) -> None:
    previews = list(single.submit(task(4, 3, n=6), preview_every=2).previews())
    assert [(preview.step, preview.rows) for preview in previews] == [
        (0, (0, 1, 2, 3, 4, 5)),
        (2, (0, 1, 2, 3)),
        (2, (4, 5)),
    ]


def test_progress_counts_every_step_whoever_joins_on_the_way(single: Engine) -> None:
    gate, seen = Gate(), list[int]()

    def watched():  # type: ignore[no-untyped-def]
        yield Loop(gate, state(1), 20, [1])
        seen.append(ticket.step)

    ticket = single.submit(watched())
    assert gate.entered.wait(10)
    others = [single.submit(task(3 + seed, seed, kernel=gate)) for seed in range(3)]
    gate.open.set()
    for other in [ticket, *others]:
        other.result()
    assert seen == [20]


def test_previews_come_every_k_steps_and_progress_is_told(engine: Engine) -> None:
    ticket = engine.submit(task(10, 3, n=2), preview_every=4)
    previews: list[Preview] = list(ticket.previews())
    assert [preview.step for preview in previews] == [0, 4, 8]
    assert previews[1].rows == (0, 1)
    partial = run(task_of_steps(4, 3, 2))
    assert torch.equal(previews[1].images, partial["x"])
    assert (ticket.stage, ticket.step, ticket.steps) == ("end", 2, 2)
    assert equal(ticket.result(), run(task(10, 3, n=2)))
    assert equal(ticket.result(), run(task(10, 3, n=2)))  # asking twice is fine


def test_previews_are_counted_over_all_loops_that_can_be_shown(engine: Engine) -> None:
    def chained():  # type: ignore[no-untyped-def]
        rows = state(1)
        for steps in (6, 5, 4):
            rows = yield Loop(walk, rows, steps, [7], preview=lambda rows: rows["x"])
        return rows

    ticket = engine.submit(chained(), preview_every=3)
    previews = list(ticket.previews())
    assert [preview.step for preview in previews] == [0, 3, 6, 9, 12]  # at 6 the second loop begins; 15 is the result
    assert len({preview.images.numpy().tobytes() for preview in previews}) == 5


def task_of_steps(  # type: ignore[no-untyped-def]
    steps: int, seed: int, n: int, kernel: Callable[..., Rows] = walk, poison: float = 0.0
):
    return (yield Loop(kernel, state(n, poison), steps, [seed + k for k in range(n)]))


def test_a_kernel_of_many_steps_must_keep_its_names(engine: Engine) -> None:
    def grow(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        return {**rows, f"y{len(rows)}": rows["x"]}

    def one(steps: int):  # type: ignore[no-untyped-def]
        return (yield Loop(grow, state(1), steps, [0]))

    with pytest.raises(ValueError, match="with the names it got"):
        engine.submit(one(2)).result()
    assert "y3" in engine.submit(one(1)).result()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_stopped_engine_answers_everybody(threads: int) -> None:
    engine = Engine(threads=threads)
    engine.start()
    ticket: Any = engine.submit(task_of_steps(10**9, 0, 1))
    engine.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        ticket.result()
    with pytest.raises(RuntimeError, match="stopped"):
        engine.submit(task(1)).result()
