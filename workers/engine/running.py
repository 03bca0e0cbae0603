"""How steps are run: as they are written, or as recorded graphs.

Either way a call is pure: rows go in, and the rows after some steps come out. Nothing that was given or handed out
changes afterwards, so whoever holds rows (a snapshot, a preview, a job that has ended) need not copy them, and what a
kernel has not touched comes out as the very tensors that went in.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Protocol, TypeAlias, final

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from workers.engine.lanes import CaptureError, Lane, Mark

log = logging.getLogger(__name__)

GRAPH_STEPS = 10
"""Steps that recorded graphs take between two looks at who joins, leaves or is cancelled. The device works through
them by itself, while the host prepares what comes next."""

GRAPHS = 256
"""Recorded graphs that are kept. A loaded model has some tens: one for each of its kernels, with and without noise, at
each size of a batch. Each holds the state of its rows on the device."""


class Running(Protocol):
    """Advances batches."""

    @property
    def most(self) -> int:
        """Steps that are worth taking at once."""

    def advance(self, kernel: Kernel, rows: Rows, steps: Tensor, streams: Tensor, count: int) -> Rows:
        """The rows after so many steps.

        Args:
            kernel: what advances them.
            rows: their state.
            steps: at which step each is, int64 ``[rows]``.
            streams: the keys of their noise, int64 ``[rows]``.
            count: of steps.
        """

    def forget(self, kernels: Collection[Kernel]) -> None:
        """Let go of what is kept for these kernels, of a model that was unloaded."""

    def release(self) -> None:
        """Let go of all that is kept: the device is short of memory."""


def taken(kernel: Kernel, rows: Rows, steps: Tensor, streams: Tensor) -> Rows:
    """One step."""
    return kernel(rows, steps, Noise.at(streams, steps))


@final
class Eager:
    """Runs a kernel as it is written, operation by operation."""

    most = 1

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    def advance(self, kernel: Kernel, rows: Rows, steps: Tensor, streams: Tensor, count: int) -> Rows:
        for step in range(count):
            rows = taken(kernel, rows, steps + step if step else steps, streams)
        return rows

    def forget(self, kernels: Collection[Kernel]) -> None:
        pass

    def release(self) -> None:
        self._lane.release()


_Form: TypeAlias = tuple[Any, ...]
"""What a graph is recorded for: a kernel, and names, shapes and types of the whole batch's state."""


@final
class Graphs:
    """Replays each step from a graph of its kernel, names, shapes and number of rows.

    The first call of a kind runs as it is written: it warms up what torch sets up at a first call. The second one is
    recorded. A kernel that can't be recorded runs as it is written, with a warning. When there are too many kinds, the
    one that was used least recently is forgotten: the device has done its last call by then, for the thread that calls
    is never more than one call ahead of it.

    Args:
        lane: where the work goes.
        room: how many kinds are kept, at least three.
    """

    most = GRAPH_STEPS

    def __init__(self, lane: Lane, room: int = GRAPHS) -> None:
        self._lane, self._room, self._eager, self._turn = lane, room, Eager(lane), threading.Lock()
        self._met: OrderedDict[_Form, _Graph | None] = OrderedDict()  # the most recently used last
        self._plain: set[Kernel] = set()
        self._before: Mark = lane.mark()

    def advance(self, kernel: Kernel, rows: Rows, steps: Tensor, streams: Tensor, count: int) -> Rows:
        with self._turn:
            rows = self._running(kernel, rows, steps, streams)(rows, steps, streams, count)
            before, self._before = self._before, self._lane.mark()
        before()
        return rows

    def forget(self, kernels: Collection[Kernel]) -> None:
        with self._turn:
            for form in [form for form in self._met if form[0] in kernels]:
                del self._met[form]
            self._plain -= set(kernels)

    def release(self) -> None:
        with self._turn:
            self._met.clear()
        self._lane.release()

    def _running(
        self, kernel: Kernel, rows: Rows, steps: Tensor, streams: Tensor
    ) -> Callable[[Rows, Tensor, Tensor, int], Rows]:
        if kernel in self._plain:
            return partial(self._eager.advance, kernel)
        form = (kernel, *sorted((name, tuple(value.shape), value.dtype) for name, value in rows.items()))
        again = form in self._met
        graph = self._met.pop(form, None)
        if graph is None and again:
            try:
                graph = _Graph(self._lane, kernel, rows, steps, streams)
            except CaptureError as error:
                log.warning("%s is not recorded as a graph; it runs operation by operation: %s", _name(kernel), error)
                self._plain.add(kernel)
                return partial(self._eager.advance, kernel)
        self._met[form] = graph
        if len(self._met) > self._room:
            self._met.popitem(last=False)
        return partial(self._eager.advance, kernel) if graph is None else graph.advance


@final
class _Graph:
    """One step, recorded on tensors of its own.

    What it is given is copied to them, unless it is what they hold already: most names never change, and the others are
    what came out of the last call.
    """

    def __init__(self, lane: Lane, kernel: Kernel, rows: Rows, steps: Tensor, streams: Tensor) -> None:
        self._rows = {name: value.clone(memory_format=torch.contiguous_format) for name, value in rows.items()}
        self._keys = {"steps": steps.clone(), "streams": streams.clone()}
        self._holds: dict[str, weakref.ref[Tensor]] = {}
        self._changed: dict[str, Tensor] = {}
        self._replay = lane.record(lambda: self._step(kernel))

    def _step(self, kernel: Kernel) -> None:
        held, steps = self._rows, self._keys["steps"]
        after = taken(kernel, dict(held), steps, self._keys["streams"])
        for name, value in held.items():
            if name not in after or (after[name].shape, after[name].dtype) != (value.shape, value.dtype):
                raise CaptureError(f"it does not give {name!r} back with the shape and type that it got")
        places = {value.untyped_storage().data_ptr() for value in held.values()}
        # What lies in the tensors that are about to change is taken out before.
        made = {
            name: value.clone() if value.untyped_storage().data_ptr() in places else value
            for name, value in after.items()
            if value is not held.get(name)
        }
        for name, value in made.items():
            self._changed[name] = held[name].copy_(value) if name in held else value
        steps.add_(1)

    def advance(self, rows: Rows, steps: Tensor, streams: Tensor, count: int) -> Rows:
        for name, value in rows.items():
            held = self._holds.get(name)
            if held is None or held() is not value:
                self._rows[name].copy_(value)
                self._holds[name] = weakref.ref(value)
        self._keys["steps"].copy_(steps)
        self._keys["streams"].copy_(streams)
        for _ in range(count):
            self._replay()
        after = {name: value.clone() for name, value in self._changed.items()}
        self._holds |= {name: weakref.ref(value) for name, value in after.items() if name in rows}
        return {**rows, **after}


def _name(kernel: Kernel) -> str:
    return getattr(kernel, "__qualname__", type(kernel).__name__)


def running_of(lane: Lane, fast: bool = True) -> Running:
    """How steps are run in a lane.

    Args:
        lane: where.
        fast: False: as they are written.
    """
    return Graphs(lane) if fast and lane.records else Eager(lane)
