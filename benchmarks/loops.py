"""The two things that continuous batching is held against: static batches, and the bare loop of a full batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, count
from typing import TypeVar

import torch

from models.core.loop import Kernel, Loop, Rows, Task
from models.core.noise import Key, Noise

R = TypeVar("R")


def run_static(tasks: Sequence[Task[R]], device: torch.device) -> list[R]:
    """Run tasks of one kind as one static batch: each loop of the batch goes on until its longest job has finished.

    A job's rows are kept as they were after its own last step, so its result is the one that it has alone.

    Raises:
        ValueError: the tasks differ in their kernels or in how many loops they have.
    """
    loops = [next(task) for task in tasks]
    for number in count():
        following: list[Loop] = []
        results: list[R] = []
        for task, state in zip(tasks, _run_to_longest(loops, number, device), strict=True):
            try:
                following.append(task.send(state))
            except StopIteration as stop:
                results.append(stop.value)
        if results and following:
            raise ValueError("the tasks of a static batch must have the same number of loops")
        if results:
            break
        loops = following
    return results


def _run_to_longest(loops: Sequence[Loop], number: int, device: torch.device) -> list[Rows]:
    """The finished rows of each loop."""
    kernel, rows, seeds = loops[0].kernel, _joined(loops), [seed for loop in loops for seed in loop.seeds]
    if any(loop.kernel is not kernel for loop in loops):
        raise ValueError("the tasks of a static batch must share their kernels")
    ends = list(accumulate(len(loop.seeds) for loop in loops))
    states = [loop.rows for loop in loops]
    for step in range(max(loop.steps for loop in loops)):
        noise = Noise([Key(seed, number, step) for seed in seeds], device)
        rows = kernel(rows, torch.full((len(seeds),), step, device=device), noise)
        for k, loop in enumerate(loops):
            if loop.steps == step + 1:
                states[k] = {name: value[ends[k] - len(loop.seeds) : ends[k]] for name, value in rows.items()}
    return states


def _joined(loops: Sequence[Loop]) -> Rows:
    return {name: torch.cat([loop.rows[name] for loop in loops]) for name in loops[0].rows}


class BareLoop:
    """The chains of one full batch and nothing else: no queue, no jobs, no rows that come and go.

    A chain is a loop whose rows can be shown half-way. Where a task has several (one a size), steps are shared evenly.

    Args:
        tasks: one for each row of the batch, of a task with at least one chain.
        device: where the rows live.
    """

    def __init__(self, tasks: Sequence[Task[R]], device: torch.device) -> None:
        self._device, self._chains = device, list[tuple[Kernel, Rows]]()
        loops = [next(task) for task in tasks]
        seeds = [seed for loop in loops for seed in loop.seeds]
        for number in count():
            if loops[0].preview:  # the state after it is not needed to measure what follows
                self._chains.append((loops[0].kernel, _joined(loops)))
                states = [loop.rows for loop in loops]
            else:
                states = _run_to_longest(loops, number, device)
            try:
                loops = [task.send(state) for task, state in zip(tasks, states, strict=True)]
            except StopIteration:
                break
        for task in tasks:
            task.close()
        if not self._chains:
            raise ValueError("these tasks have no chain")
        self.size = len(seeds)
        self._noise = Noise([Key(seed, 1, 0) for seed in seeds], device)
        self._index = torch.zeros(self.size, dtype=torch.int64, device=device)

    def advance(self, steps: int) -> Rows:
        """So many steps of the batch, from its start."""
        rows: Rows = {}
        for number, (kernel, start) in enumerate(self._chains):
            done, end = (steps * part // len(self._chains) for part in (number, number + 1))
            rows = start
            for _ in range(end - done):
                rows = kernel(rows, self._index, self._noise)
        synchronize(self._device)
        return rows

    def images_per_second(self, steps: int, seconds: float) -> float:
        """Images of ``steps`` steps a second, measured over whole batches for at least ``seconds``."""
        images, started = 0, time.perf_counter()
        while True:
            self.advance(steps)
            images += self.size
            elapsed = time.perf_counter() - started
            if elapsed >= seconds:
                return images / elapsed


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    """Inside the block, torch uses so many CPU threads for what this thread asks of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
