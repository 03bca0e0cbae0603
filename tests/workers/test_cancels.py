"""Ten thousand jobs are cancelled at random moments: their neighbours' bits stay, and nothing else is left of them."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch

from models.core.loop import Kernel, Loop, Rows, run
from models.core.noise import Noise
from workers.engine.engine import Engine
from workers.engine.member import Member
from workers.engine.tickets import CancelledError, Ticket

CANCELS = 10_000
CLIENTS = 4
OUTSTANDING = 16
"""Jobs of a client that may be cancelled, at a time."""
WIDTHS = (13, 17)
"""Widths of rows; no other tensor of these tests has them."""


def walk(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {"x": rows["x"] + noise.normal(rows["x"].shape[1])}


def shrink(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {"x": 0.9 * rows["x"] + 0.1 * noise.normal(rows["x"].shape[1]) + 0.01 * t[:, None]}


def turn(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {"x": (rows["x"] + t[:, None]).sin() + noise.normal(rows["x"].shape[1])}


KERNELS: tuple[Kernel, ...] = (walk, shrink, turn)


class Case(NamedTuple):
    """A small job: two loops of two kernels."""

    kernels: tuple[Kernel, Kernel]
    width: int
    seed: int
    n: int
    steps: int

    def task(self):  # type: ignore[no-untyped-def]
        seeds = [self.seed * 8 + k for k in range(self.n)]
        rows = yield Loop(self.kernels[0], {"x": torch.zeros(self.n, self.width)}, self.steps, seeds)
        rows = yield Loop(self.kernels[1], rows, 1 + self.steps // 4, seeds)
        return rows["x"]


def cases() -> list[Case]:
    chance = random.Random(0)
    return [
        Case(
            (chance.choice(KERNELS), chance.choice(KERNELS)),
            chance.choice(WIDTHS),
            seed,
            chance.randint(1, 4),
            chance.randint(1, 80),
        )
        for seed in range(120)
    ]


class Client(threading.Thread):
    """Submits jobs, cancels some of its own at random moments, and compares all others with their runs alone.

    Args:
        engine: a running engine.
        expected: what each job gives alone.
        seed: of all that chance decides.
        cancels: how many jobs must have ended as cancelled.
    """

    def __init__(self, engine: Engine, expected: dict[Case, torch.Tensor], seed: int, cancels: int) -> None:
        super().__init__()
        self._engine, self._expected, self._cancels = engine, expected, cancels
        self._chance, self._cases = random.Random(seed), list(expected)
        self._doomed: list[tuple[Case, Ticket[Any]]] = []
        self.cancelled = self.in_mid_chain = self.compared = 0
        self.different: list[Case] = []
        self.tickets: list[weakref.ref[Ticket[Any]]] = []

    def run(self) -> None:
        neighbours = []
        while self.cancelled < self._cancels:
            if self._chance.random() < 0.1:
                neighbours.append(self._submit())
            self._doomed.append(self._submit())
            if len(self._doomed) == OUTSTANDING:
                self._cancel(min(self._chance.randint(1, 8), self._cancels - self.cancelled))
        for case, ticket in [*neighbours, *self._doomed]:
            self._compare(case, ticket)
        self._doomed.clear()

    def _submit(self) -> tuple[Case, Ticket[Any]]:
        case = self._chance.choice(self._cases)
        keep = (lambda chain: None) if self._chance.random() < 0.5 else None
        ticket = self._engine.submit(case.task(), priority=self._chance.randrange(10), keep=keep)
        self.tickets.append(weakref.ref(ticket))
        return case, ticket

    def _cancel(self, count: int) -> None:
        self._chance.shuffle(self._doomed)
        chosen, self._doomed = self._doomed[:count], self._doomed[count:]
        for _, ticket in chosen:
            ticket.cancel()
        for case, ticket in chosen:
            try:
                ticket.result()
            except CancelledError:
                self.cancelled += 1
                self.in_mid_chain += ticket.step > 0
            else:  # it had ended before
                self._compare(case, ticket)

    def _compare(self, case: Case, ticket: Ticket[Any]) -> None:
        self.compared += 1
        if not torch.equal(ticket.result(), self._expected[case]):
            self.different.append(case)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(max_rows=16, checkpoint_seconds=0.02, threads=2)
    engine.start()
    yield engine
    engine.stop()
    assert not engine.is_alive()


def left(others: Sequence[object] = ()) -> list[object]:
    """What is still held of the jobs here: members of groups, and rows.

    Args:
        others: what was there before these jobs, of other tests in this process.
    """
    known = {id(thing) for thing in others}
    gc.collect()
    # By type(), for isinstance() asks the things themselves, some of which answer with warnings.
    members = [thing for thing in gc.get_objects() if type(thing) is Member and thing.loop.kernel in KERNELS]
    tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
    rows = [tensor for tensor in tensors if tensor.ndim and tensor.shape[-1] in WIDTHS]
    return [thing for thing in [*members, *rows] if id(thing) not in known]


@pytest.fixture
def others() -> list[object]:
    """Tensors that earlier tests have left in this process; kept, so that their places are not taken by new ones."""
    return left()


@pytest.fixture
def expected(others: list[object]) -> Iterator[dict[Case, torch.Tensor]]:
    """What each job gives alone; forgotten when the test has looked for what is left."""
    results = {case: run(case.task()) for case in cases()}
    yield results
    results.clear()


@pytest.mark.timeout(300)
def test_ten_thousand_cancels(others: list[object], engine: Engine, expected: dict[Case, torch.Tensor]) -> None:
    clients = [Client(engine, expected, seed, CANCELS // CLIENTS) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert [client.different for client in clients] == [[]] * CLIENTS
    assert sum(client.cancelled for client in clients) == CANCELS
    assert sum(client.in_mid_chain for client in clients) > CANCELS / 100  # as far as their tickets were told
    assert sum(client.compared for client in clients) > CANCELS / 20
    for case in list(expected)[:10]:
        assert torch.equal(engine.submit(case.task()).result(), expected[case])
    tickets = [ticket for client in clients for ticket in client.tickets]
    expected.clear()
    assert not left(others)
    assert len(tickets) > CANCELS
    assert not [ticket for ticket in tickets if ticket() is not None]
