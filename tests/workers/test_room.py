"""How many rows fit a device's memory: measured, and kept to."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import pytest
import torch
from torch import Tensor

from models.core.loop import Loop, Rows, Task
from models.core.noise import Noise
from workers.engine.engine import Engine
from workers.engine.room import meter_of, rows_within

FIXED, ROW = 1000, 100


@final
class Counting:
    """A kernel that notes the sizes of its batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        self.sizes.append(len(t))
        return {**rows, "y": rows["y"] + 1}


@final
class Device:
    """A meter of a device on which a step takes so much for itself and for each row.

    Args:
        kernel: the one that is measured.
        room: its free bytes.
    """

    def __init__(self, kernel: Counting, room: int) -> None:
        self._kernel, self._room = kernel, room

    def free(self) -> int:
        return self._room

    def peak(self, work: Callable[[], object]) -> int:
        work()
        taken = FIXED + ROW * self._kernel.sizes[-1]
        if taken > self._room:
            raise torch.OutOfMemoryError("no memory")
        return taken


@pytest.mark.parametrize(
    ("room", "rows"), [(10**9, 64), (2 * (FIXED + 20 * ROW), 20), (2 * (FIXED + 8 * ROW), 8), (FIXED + 3 * ROW, 1)]
)
def test_as_many_rows_as_fit_half_of_what_is_free(room: int, rows: int) -> None:
    kernel = Counting()
    assert rows_within(kernel, {"y": torch.zeros(1, 2)}, 64, Device(kernel, room)) == rows


def test_a_row_that_does_not_fit_alone_is_an_error() -> None:
    kernel = Counting()
    with pytest.raises(torch.OutOfMemoryError):
        rows_within(kernel, {"y": torch.zeros(1, 2)}, 64, Device(kernel, FIXED))


def chain(kernel: Counting, rows: int) -> Task[Tensor]:
    after = yield Loop(kernel, {"y": torch.zeros(rows, 2)}, steps=3, seeds=range(rows))
    return after["y"]


def test_a_batch_of_more_rows_is_run_in_parts() -> None:
    engine, kernel = Engine(max_rows=16), Counting()
    engine.pad_to({kernel: (1, 2, 4)})
    engine.start()
    try:
        assert torch.equal(engine.submit(chain(kernel, 10)).result(), torch.full((10, 2), 3.0))
    finally:
        engine.stop()
    assert max(kernel.sizes) == 4


def test_a_cpu_tells_nothing() -> None:
    assert meter_of(torch.device("cpu")) is None
