"""A lane that records on the CPU what a CUDA graph records on a GPU: operations on tensors at fixed places."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from workers.engine.lanes import CaptureError, Mark


class _Recorder(TorchDispatchMode):
    """Notes every operation with its arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:  # .item(), bool() and the like
            raise RuntimeError("operation not permitted when stream is capturing")
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            with torch.no_grad():  # gradients were recorded as the operations that make them
                again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


class RecordingLane:
    """Counts what it records and repeats.

    Attributes:
        room: the most recordings that fit; those beyond it are out of memory.
        fault: what the device says of itself once it is broken.
        held: recordings that somebody may still repeat.
    """

    records = True

    def __init__(self, room: int = 1000) -> None:
        self.room, self.fault = room, ""
        self.recorded, self.replayed, self.released, self.awaited, self.held = 0, 0, 0, 0, 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        yield

    def mark(self) -> Mark:
        def wait() -> None:
            self.awaited += 1

        return wait

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        if self.recorded >= self.room:
            raise torch.OutOfMemoryError("no room for a graph")
        recorder = _Recorder()
        try:
            with recorder:
                work()
        except Exception as error:
            raise CaptureError(str(error)) from error
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            recorder.replay()

        self.held += 1
        weakref.finalize(replay, self._gone)
        return replay

    def _gone(self) -> None:
        self.held -= 1

    def release(self) -> None:
        self.released += 1

    def broken(self) -> str | None:
        return self.fault or None
