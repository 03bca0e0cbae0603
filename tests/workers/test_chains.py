"""Saved chains: a task that goes on elsewhere gives the bytes of an unbroken run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from models.core.loop import Loop, Rows, run
from models.core.noise import Noise
from tests.workers.test_engine import equal, state, walk
from workers.chains.chain import Chain, ChainError, decode, encode
from workers.engine.engine import Engine
from workers.engine.tickets import StoppedError, Ticket


def grow(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """One step that adds a name to the state."""
    return {**rows, "y": noise.normal(2)}


class Brake:
    """A random walk that holds the engine at the n-th call, until it is told to stop."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        self._left -= 1
        if self._left == 0:
            self.reached.set()
            assert self.go.wait(10)
        return walk(rows, t, noise)


def task(steps: int, n: int, kernel: Callable[..., Rows] = walk, first: Callable[..., Rows] = grow):  # type: ignore[no-untyped-def]
    seeds = list(range(7, 7 + n))
    made = yield Loop(first, {"x": torch.zeros(n, 3)}, 1, seeds, "make")
    rows = yield Loop(kernel, {**state(n), "x": made["x"] + made["y"].sum(1, keepdim=True)}, 0, seeds, "none")
    rows = yield Loop(kernel, rows, steps, seeds, "walk")
    rows = yield Loop(kernel, rows, 2, seeds, "end")
    return rows


@contextmanager
def running(max_rows: int = 4, checkpoint_seconds: float = 0.0) -> Iterator[Engine]:
    engine = Engine(max_rows, checkpoint_seconds=checkpoint_seconds)
    engine.start()
    yield engine
    engine.stop()


def stopped_at(call: int) -> Chain:
    """The chain of a task of six rows whose engine is stopped in the n-th call of its kernel.

    The rows of a shorter task are in the batch of four, too, so that its own rows begin at different times.
    """
    brake = Brake(call)
    with running(max_rows=4) as engine:
        engine.submit(task(2, 2, brake))
        ticket = engine.submit(task(6, 6, brake))
        assert brake.reached.wait(10)
        stop = threading.Thread(target=engine.stop)
        stop.start()
        time.sleep(0.02)
        brake.go.set()
        stop.join()
    with pytest.raises(StoppedError) as stopped:
        ticket.result()
    assert stopped.value.chain is not None
    return stopped.value.chain


@pytest.mark.parametrize("call", [1, 2, 4, 5, 7, 9, 12, 14])
def test_a_stopped_task_goes_on_where_it_was(call: int) -> None:
    chain = decode(encode(stopped_at(call)))
    steps: list[int] = []

    def counting(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        steps.append(len(t))
        return walk(rows, t, noise)

    with running(max_rows=3) as engine:
        beside = engine.submit(task(3, 2))
        ticket = engine.submit(task(6, 6, counting), resume=chain)
        assert equal(ticket.result(), run(task(6, 6)))
        assert equal(beside.result(), run(task(3, 2)))
    left = 6 * 6 - sum(chain.steps) if chain.name == "walk" else -sum(chain.steps)
    assert sum(steps) == left + 2 * 6  # nothing is done twice


def test_rows_of_one_task_may_be_at_different_steps() -> None:
    found = {tuple(sorted(set(stopped_at(call).steps))) for call in (3, 6, 9)}
    assert any(len(steps) > 1 for steps in found)
    assert any(6 in steps and len(steps) > 1 for steps in found)  # some have finished


def test_a_loop_of_one_step_is_begun_anew() -> None:
    brake = Brake(1)

    def wide(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        brake.reached.set()
        assert brake.go.wait(10)
        return grow(rows, t, noise)

    with running(max_rows=4) as engine:  # of six rows, two wait when the first four are done
        ticket = engine.submit(task(2, 6, first=wide))
        assert brake.reached.wait(10)
        stop = threading.Thread(target=engine.stop)
        stop.start()
        time.sleep(0.02)
        brake.go.set()
        stop.join()
    with pytest.raises(StoppedError) as stopped:
        ticket.result()
    chain = stopped.value.chain
    assert chain is not None
    assert (chain.name, list(chain.steps), list(chain.rows)) == ("make", [0] * 6, ["x"])
    with running() as engine:
        assert equal(engine.submit(task(2, 6), resume=chain).result(), run(task(2, 6)))


def test_chains_are_kept_while_the_task_runs() -> None:
    kept: list[bytes] = []

    def slow(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
        time.sleep(0.002)
        return walk(rows, t, noise)

    with running(checkpoint_seconds=0.02) as engine:
        long = engine.submit(task(100, 6, slow), keep=lambda chain: kept.append(encode(chain)))
        silent = engine.submit(task(50, 2, slow))
        expected = long.result()
        assert equal(silent.result(), run(task(50, 2)))
    assert equal(expected, run(task(100, 6)))
    assert len(kept) >= 3
    done = [sum(decode(data).steps) for data in kept if decode(data).name == "walk"]
    assert done == sorted(done)
    with running() as engine:
        tickets = [engine.submit(task(100, 6), resume=decode(data)) for data in kept[:: max(1, len(kept) // 4)]]
        assert all(equal(ticket.result(), expected) for ticket in tickets)


def test_a_short_task_is_not_kept() -> None:
    kept: list[Chain] = []
    with running(checkpoint_seconds=5.0) as engine:
        engine.submit(task(50, 4), keep=kept.append).result()
    assert kept == []


def test_a_chain_that_can_not_be_kept_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    def full(chain: Chain) -> None:
        raise OSError("no space left")

    with running(checkpoint_seconds=0.001) as engine:
        assert equal(engine.submit(task(200, 4), keep=full).result(), run(task(200, 4)))
    assert "no space left" in caplog.text


def test_a_chain_survives_its_file() -> None:
    chain = stopped_at(7)
    again = decode(encode(chain))
    assert (again.name, again.total, list(again.seeds), list(again.steps)) == (
        chain.name,
        chain.total,
        list(chain.seeds),
        list(chain.steps),
    )
    assert len(again.results) == len(chain.results) == 2
    for mine, its in zip([*chain.results, chain.rows], [*again.results, again.rows], strict=True):
        assert equal(mine, its)
        assert {k: v.dtype for k, v in mine.items()} == {k: v.dtype for k, v in its.items()}


def test_a_damaged_file_is_noticed_wherever_the_damage_is() -> None:
    data = encode(stopped_at(7))
    for place in range(0, len(data), 13):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(ChainError):
            decode(bytes(damaged))
    for end in (0, 5, 8, 100, len(data) - 1):
        with pytest.raises(ChainError):
            decode(data[:end])
    with pytest.raises(ChainError):
        decode(data + b"x")


@pytest.mark.parametrize("other", [{"n": 5}, {"steps": 7}, {"steps": 5}])
def test_a_chain_of_another_task_is_refused(other: dict[str, Any]) -> None:
    chain = stopped_at(7)
    with running() as engine:
        ticket: Ticket[Any] = engine.submit(task(**{"steps": 6, "n": 6, **other}), resume=chain)
        with pytest.raises(ChainError):
            ticket.result()
        assert equal(engine.submit(task(6, 6)).result(), run(task(6, 6)))


def test_a_chain_whose_task_ends_early_is_refused() -> None:
    def short():  # type: ignore[no-untyped-def]
        return (yield Loop(walk, state(6), 1, range(7, 13), "make"))

    with running() as engine, pytest.raises(ChainError):
        engine.submit(short(), resume=stopped_at(7)).result()


def test_a_task_that_has_not_begun_here_is_where_it_was() -> None:
    with running() as engine:
        engine.stop()
        for chain in (None, stopped_at(7)):
            with pytest.raises(StoppedError) as stopped:
                engine.submit(task(6, 6), resume=chain).result()
            assert stopped.value.chain is chain
