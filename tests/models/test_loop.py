from __future__ import annotations

import pytest
import torch

from models.core.loop import Loop, RowsError, run


def add_step(rows, t, noise):  # type: ignore[no-untyped-def]
    return {**rows, "x": rows["x"] + t.to(torch.float32)[:, None]}


def add_noise(rows, t, noise):  # type: ignore[no-untyped-def]
    return {**rows, "x": rows["x"] + noise.normal(1)}


def two_loops(n: int):  # type: ignore[no-untyped-def]
    rows = yield Loop(add_step, {"x": torch.zeros(n, 1)}, steps=4, seeds=range(n))
    middle = rows["x"].clone()
    rows = yield Loop(add_noise, rows, steps=2, seeds=range(n))
    return middle, rows["x"]


def test_run_drives_a_task_to_its_result() -> None:
    middle, end = run(two_loops(3))
    assert middle.flatten().tolist() == [6, 6, 6]  # 0 + 1 + 2 + 3
    assert len(end.unique()) == 3


def test_noise_differs_between_the_loops_of_a_task() -> None:
    def twice():  # type: ignore[no-untyped-def]
        first = yield Loop(add_noise, {"x": torch.zeros(1, 1)}, steps=1, seeds=[7])
        second = yield Loop(add_noise, {"x": torch.zeros(1, 1)}, steps=1, seeds=[7])
        return first["x"].item(), second["x"].item()

    first, second = run(twice())
    assert first != second


def test_no_steps_give_the_rows_back() -> None:
    def none():  # type: ignore[no-untyped-def]
        return (yield Loop(add_noise, {"x": torch.ones(2, 1)}, steps=0, seeds=[1, 2]))

    assert torch.equal(run(none())["x"], torch.ones(2, 1))


def test_rows_that_are_not_finite_end_the_task() -> None:
    def diverge():  # type: ignore[no-untyped-def]
        yield Loop(lambda rows, t, noise: {"x": rows["x"] / 0}, {"x": torch.ones(2, 1)}, steps=1, seeds=[1, 2])

    with pytest.raises(RowsError, match="x is not finite"):
        run(diverge())


@pytest.mark.parametrize(
    ("rows", "steps", "seeds", "message"),
    [
        ({"x": torch.zeros(2, 1)}, 1, [1], "1 seeds, but"),
        ({"x": torch.zeros(2, 1), "y": torch.zeros(3, 1)}, 1, [1, 2], "leading dimensions"),
        ({"x": torch.zeros(1, 1)}, -1, [1], "must not be negative"),
    ],
)
def test_a_loop_refuses_what_does_not_fit(rows, steps, seeds, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        Loop(add_step, rows, steps, seeds)
