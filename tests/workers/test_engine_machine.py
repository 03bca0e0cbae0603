"""Two hundred jobs with random steps, cancels, failures and stops through real engines: all end in a legal state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from models.core.loop import Loop, Rows, RowsError, run
from models.core.noise import Noise
from workers.chains.chain import decode, encode
from workers.engine.engine import Engine
from workers.engine.tickets import CancelledError, StoppedError, Ticket

JOBS = 200


def walk(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {**rows, "x": rows["x"] + noise.normal(2)}


def trap(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """Raises if any row that is marked has come to its step."""
    if bool(((rows["fuse"] >= 0) & (rows["fuse"] == t[:, None])).any()):
        raise RuntimeError("fuse")
    return walk(rows, t, noise)


KERNELS = {"walk": walk, "trap": trap}


def job(kind: str, steps: int, seed: int, n: int):  # type: ignore[no-untyped-def]
    """kinds: ``ok``; ``nan``: no row is finite; ``fuse``: its kernel raises; ``raise``: its task does."""
    fuse = steps // 2 if kind == "fuse" else -1
    rows = {"x": torch.zeros(n, 2), "fuse": torch.full((n, 1), fuse)}
    if kind == "nan":
        rows["x"][:, 0] = float("nan")
    seeds = [seed * 100 + k for k in range(n)]
    rows = yield Loop(trap, rows, steps, seeds)
    if kind == "raise":
        raise KeyError("own fault")
    rows = yield Loop(walk, rows, 1 + steps // 3, seeds)
    return rows["x"]


EXPECTED = {"nan": RowsError, "fuse": RuntimeError, "raise": KeyError}
KINDS = st.sampled_from(["ok", "ok", "ok", "nan", "fuse", "raise"])
CASES = st.tuples(KINDS, st.integers(1, 30), st.integers(1, 5), st.integers(0, 9))


def ended(ticket: Ticket[Any]) -> tuple[Any, Exception | None]:
    """The ticket's result, or the error that it ended with."""
    try:
        return ticket.result(), None
    except Exception as error:
        return None, error


class EngineMachine(RuleBasedStateMachine):
    """Submits in bursts while the engine runs, cancels and moves to another engine at any moment, and compares every
    end with a run alone."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(max_rows=8, threads=2)
        self.jobs: list[tuple[tuple[Any, ...], Ticket[Any]]] = []
        self.cancelled: set[int] = set()

    @initialize()
    def start(self) -> None:
        self.engine.start()

    @precondition(lambda self: len(self.jobs) < JOBS)
    @rule(burst=st.lists(CASES, min_size=10, max_size=20))
    def submit(self, burst: list[tuple[str, int, int, int]]) -> None:
        for kind, steps, n, priority in burst:
            case = (kind, steps, len(self.jobs), n)
            self.jobs.append((case, self.engine.submit(job(*case), priority=priority)))

    @precondition(lambda self: self.jobs)
    @rule(pick=st.integers(0, JOBS))
    def cancel(self, pick: int) -> None:
        number = pick % len(self.jobs)
        self.cancelled.add(number)
        self.jobs[number][1].cancel()

    @precondition(lambda self: self.jobs)
    @rule(pick=st.integers(0, JOBS))
    def wait(self, pick: int) -> None:
        self.check(pick % len(self.jobs))

    @precondition(lambda self: self.jobs)
    @rule(max_rows=st.integers(2, 9), threads=st.integers(1, 3))
    def go_on_elsewhere(self, max_rows: int, threads: int) -> None:
        """Stop the engine, as a worker does that shuts down, and give its tasks to another one."""
        self.engine.stop()
        self.engine = Engine(max_rows, threads=threads)
        self.engine.start()
        for number, (case, ticket) in enumerate(self.jobs):
            end = ended(ticket)[1]
            if isinstance(end, StoppedError):
                chain = decode(encode(end.chain)) if end.chain else None
                self.jobs[number] = (case, self.engine.submit(job(*case), resume=chain))

    @invariant()
    def alive(self) -> None:
        assert self.engine.is_alive() or not self.jobs

    def check(self, number: int) -> None:
        case, ticket = self.jobs[number]
        legal = {EXPECTED.get(case[0], type(None))} | ({CancelledError} if number in self.cancelled else set())
        result, end = ended(ticket)
        assert type(end) in legal, (case, end)
        if end is None:
            assert torch.equal(result, run(job(*case)))

    def teardown(self) -> None:
        while 0 < len(self.jobs) < JOBS:
            self.submit([("ok", 1 + k, 1 + k % 3, 5) for k in range(min(20, JOBS - len(self.jobs)))])
        for number in range(len(self.jobs)):
            self.check(number)
        self.engine.stop()
        assert not self.engine.is_alive()


@pytest.mark.timeout(300)
class TestEngineMachine(EngineMachine.TestCase):  # type: ignore[misc]
    settings = settings(
        max_examples=6, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
