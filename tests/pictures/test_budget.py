"""Memory that threads share."""

from __future__ import annotations

import threading

import pytest

from pictures.budget import ByteBudget


def holding(budget: ByteBudget, wanted: int, order: list[int], go: threading.Event) -> threading.Thread:
    def run() -> None:
        with budget.take(wanted):
            order.append(wanted)
            go.wait(10)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_what_does_not_fit_waits_and_nobody_overtakes() -> None:
    budget, order, go = ByteBudget(100), list[int](), threading.Event()
    with budget.take(60):
        large = holding(budget, 70, order, go)
        while not budget.waiting:
            pass
        small = holding(budget, 10, order, go)  # it would fit, but came later
        while budget.waiting < 2:
            pass
        assert (order, budget.taken) == ([], 60)
    while len(order) < 2:
        pass
    assert (order, budget.taken) == ([70, 10], 80)
    go.set()
    large.join()
    small.join()
    assert (budget.taken, budget.waiting) == (0, 0)


def test_more_than_everything_is_worked_on_alone() -> None:
    budget = ByteBudget(100)
    with budget.take(10**9):
        assert budget.taken == 100
    assert budget.taken == 0


def test_what_fails_gives_its_memory_back() -> None:
    budget = ByteBudget(100)
    with pytest.raises(ValueError, match="of the work"), budget.take(100):
        raise ValueError("of the work")
    with budget.take(100):
        assert budget.taken == 100
