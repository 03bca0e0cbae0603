"""The one idea: tasks yield loops.

Every system and every job has the shape *start rows -> repeat a step n times -> finish*. A **task** is a generator that
yields :class:`Loop` and is sent back the finished rows. Because it hands its loops over instead of running them,
an engine can advance the loops of many jobs together; :func:`run` drives one task alone and nothing else differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from models.core.noise import Noise, streams

Rows: TypeAlias = dict[str, Tensor]
"""The state of a batch of rows; every tensor has the rows as its leading dimension."""

Kernel: TypeAlias = Callable[[Rows, Tensor, Noise], Rows]
"""(state, step index of each row as int64 ``[rows]``, keyed noise) -> next state. Pure, and each row by itself.

The next state has the names, shapes and types of the state; only a kernel for loops of one step may add names.
"""

R = TypeVar("R")
Task: TypeAlias = Generator["Loop", Rows, R]


class RowsError(ValueError):
    """The rows of one job went wrong (not finite, or far out of range). Only that job fails."""


@dataclass(frozen=True)
class Loop:
    """``steps`` applications of ``kernel`` to ``rows``.

    Args:
        kernel: built once, when the model is loaded: loops with the same kernel object are batched together.
        rows: the start, one leading dimension for all tensors.
        steps: how often each row is advanced (0 gives the rows back as they are).
        seeds: one noise seed a row.
        name: what a client sees as the stage of its job.
        preview: rows -> pictures ``[rows, C, H, W]`` in [-1, 1], if the state can be shown half-way.
        judge: adds ``f``, minus the energy, to rows that are shown: told beside the pictures. It draws no noise.
        keep: the names of the result that the task reads, apart from handing them on as the start of its next loop, up
            to its end; None: all. Only these are saved with a chain. A task that is resumed is sent them alone, and the
            loops that it yields until it is where it was may lack the other names, or have none.
        bound: the greatest absolute value of ``y`` at the end; a row beyond it has diverged.
    """

    kernel: Kernel
    rows: Rows
    steps: int
    seeds: Sequence[int]
    name: str = "loop"
    preview: Callable[[Rows], Tensor] | None = None
    judge: Kernel | None = None
    keep: Collection[str] | None = None
    bound: float | None = None

    def __post_init__(self) -> None:
        sizes = {name: value.shape[0] for name, value in self.rows.items()}
        if set(sizes.values()) - {len(self.seeds)}:
            raise ValueError(f"{len(self.seeds)} seeds, but the state has these leading dimensions: {sizes}")
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")

    def shown(self, rows: Rows) -> tuple[Tensor, list[float | None]]:
        """The pictures of rows and the energy of each (None: the loop has no judge), for a loop that has a preview."""
        assert self.preview
        images = self.preview(rows).detach()
        if self.judge is None:
            return images.cpu(), [None] * len(images)
        zeros = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        return images.cpu(), (-self.judge(rows, zeros, Noise.at(zeros, zeros))["f"]).tolist()

    def kept(self, result: Rows) -> Rows:
        """What is kept of the result."""
        return result if self.keep is None else {k: v for k, v in result.items() if k in self.keep}


class Condition(NamedTuple):
    """How a row is at the end of a loop.

    Args:
        broken: the first of its names with a number that is NaN or infinite; None: there is none.
        reach: the greatest absolute value of its ``y``; 0 without one.
    """

    broken: str | None
    reach: float


SOUND = Condition(None, 0.0)


def conditions(rows: Rows) -> list[Condition]:
    """How rows are, in one read from their device.

    Args:
        rows: the end of rows, or what their kernel has changed of them.
    """
    broken = _broken(rows)
    if not broken:
        return [SOUND] * len(next(iter(rows.values()), ()))
    facts = [bad.float() for bad in broken.values()]
    *found, reaches = torch.stack([*facts, _reach(rows) if "y" in broken else torch.zeros_like(facts[0])]).tolist()
    return [
        Condition(next((name for name, bad in zip(broken, row, strict=True) if bad), None), reach)
        for *row, reach in zip(*found, reaches, strict=True)
    ]


def _broken(rows: Rows) -> dict[str, Tensor]:
    """Which rows have a number that is not finite, by the names that could, bool ``[rows]``."""
    flat = {name: value.flatten(1) if value.dim() > 1 else value[:, None] for name, value in rows.items()}
    return {
        name: (~value.isfinite()).any(1) for name, value in flat.items() if value.is_floating_point() and value.shape[1]
    }


def _reach(rows: Rows) -> Tensor:
    """The greatest absolute value of each row's ``y``."""
    return rows["y"].reshape(len(rows["y"]), -1).abs().amax(1).float()


def diverged(loop: Loop, ends: Sequence[Condition]) -> dict[int, str]:
    """The rows that have diverged in a loop, by number, each with the reason.

    They have a number that is NaN or infinite, or their ``y`` is beyond the loop's bound.

    Args:
        loop: which has ended.
        ends: of its rows.
    """
    found: dict[int, str] = {}
    for row, (broken, reach) in enumerate(ends):
        if broken is not None:
            found[row] = f"the chain diverged: {broken} is not finite; lower step_size or noise"
        elif loop.bound is not None and reach > loop.bound:
            found[row] = f"the chain left the range of images (|Y| > {loop.bound:g}); lower step_size, steps or noise"
    return found


def checked(loop: Loop, rows: Rows) -> Rows:
    """The end of a loop as it is.

    Raises:
        RowsError: a row has diverged.
    """
    for reason in diverged(loop, conditions(rows)).values():
        raise RowsError(reason)
    return rows


def blanked(loop: Loop, rows: Rows) -> Rows:
    """The end of a loop with NaN in the ``y`` of rows that have diverged. Nothing waits for their device."""
    lost = torch.stack(list(_broken(rows).values())).any(0)
    if loop.bound is not None:
        lost = lost | (_reach(rows) > loop.bound)
    return {**rows, "y": torch.where(lost.view(-1, *[1] * (rows["y"].dim() - 1)), torch.nan, rows["y"])}


def without(rows: Rows, lost: Collection[int]) -> Rows:
    """The same with NaN in all numbers of the lost rows; the others go on beside them, for rows are independent."""
    places = sorted(lost)

    def blanked(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        value = value.clone()
        value[places] = math.nan
        return value

    return {name: blanked(value) for name, value in rows.items()}


def run(
    task: Task[R],
    *,
    device: torch.device | str = "cpu",
    watch: Callable[[Loop, int, Rows], None] | None = None,
    end: Callable[[Loop, Rows], Rows] = checked,
) -> R:
    """Drive one task alone, to its result. The reference that the batching engine is held against.

    Args:
        task: the generator, not started.
        device: where the rows live.
        watch: called with each loop, the number of steps done, and the rows then: before the first step of a loop, and
            after each step.
        end: of a loop and its last rows, the rows that the task is sent: :func:`checked`, or :func:`blanked` where the
            host shall not wait for the device.
    """
    number = 0
    try:
        loop = next(task)
        while True:
            rows, keys = loop.rows, streams(loop.seeds, number, device)
            if watch:
                watch(loop, 0, rows)
            for step in range(loop.steps):
                steps = torch.full_like(keys, step)
                rows = loop.kernel(rows, steps, Noise.at(keys, steps))
                if watch:
                    watch(loop, step + 1, rows)
            number += 1
            loop = task.send(end(loop, rows))
    except StopIteration as stop:
        result: Any = stop.value
        return result


def run_together(tasks: Sequence[Task[R]], *, device: torch.device | str = "cpu") -> list[R]:
    """Drive tasks that yield the same loops (kernel, number of steps) as one batch; gives their results in order.

    For evaluation, where many jobs differ in their inputs alone.

    Raises:
        ValueError: the tasks differ in their loops.
    """
    return run(_together(tasks), device=device)


def _together(tasks: Sequence[Task[R]]) -> Task[list[R]]:
    loops = [next(task) for task in tasks]
    results: list[R] = []
    while loops:
        first, sizes = loops[0], [len(loop.seeds) for loop in loops]
        if any((loop.kernel, loop.steps) != (first.kernel, first.steps) for loop in loops):
            raise ValueError("only tasks with the same kernels and numbers of steps can be driven together")
        joined = {k: torch.cat([loop.rows[k] for loop in loops]) for k in first.rows}
        rows = yield Loop(
            first.kernel, joined, first.steps, [seed for loop in loops for seed in loop.seeds], bound=first.bound
        )
        parts = {k: v.split(sizes) for k, v in rows.items()}
        loops = []
        for number, task in enumerate(tasks):
            try:
                loops.append(task.send({k: v[number] for k, v in parts.items()}))
            except StopIteration as stop:
                results.append(stop.value)
        if loops and results:
            raise ValueError("only tasks with equally many loops can be driven together")
    return results
