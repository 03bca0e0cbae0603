"""Where the engine's work goes on a device: how its calls are recorded, awaited, and told from a broken device.

A *lane* is the place in which one thread's work on a device is done in order: on CUDA a stream. Host and device run
apart there, so whoever reads results in another thread first waits for a *mark* in the lane.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeAlias, final

import torch

from models.core.devices import probed

Mark: TypeAlias = Callable[[], None]
"""Waits until the device has done what came before it in the lane."""

_capturing = threading.Lock()  # of all engines of the process


class CaptureError(Exception):
    """What was to be recorded asks the host for something, or does what a recording can't hold."""


class Lane(Protocol):
    """Order, recording and health of one device."""

    @property
    def records(self) -> bool:
        """Whether :meth:`record` can be used."""

    def entered(self) -> AbstractContextManager[Any]:
        """Inside it the thread's work goes into this lane."""

    def mark(self) -> Mark:
        """A place in the lane behind all work so far."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record work on tensors that stay where they are; gives what repeats it.

        Raises:
            CaptureError: it can't be recorded.
            torch.OutOfMemoryError: there is no room for what it needs.
        """

    def release(self) -> None:
        """Give memory back that nothing uses."""

    def broken(self) -> str | None:
        """Why no work can be done on the device any more, or None; it waits for the device."""


@final
class PlainLane:
    """The CPU: work is done when its call returns. Also for accelerators other than CUDA, run as torch does it."""

    records = False

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)

    def entered(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def mark(self) -> Mark:
        return _nothing

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        raise CaptureError("there are no graphs on this device")

    def release(self) -> None:
        pass

    def broken(self) -> str | None:
        return None if self._device.type == "cpu" else probed(self._device)


@final
class CudaLane:
    """A stream of its own, and graphs whose temporaries share one pool: they are replayed one after another.

    Nothing outlives a replay in that pool, since recorded work leaves its results in tensors from outside of it.
    """

    records = True

    def __init__(self, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def entered(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream)

    def mark(self) -> Mark:
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event.synchronize

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        graph, failed = torch.cuda.CUDAGraph(), None
        with _capturing, self.entered():
            # Other threads load models and fetch images meanwhile, which must not spoil it.
            graph.capture_begin(self._pool, capture_error_mode="thread_local")
            try:
                work()
            except Exception as error:
                failed = error
            try:
                graph.capture_end()
            except Exception as error:
                failed = failed or error
        if failed is None:
            return graph.replay
        # A pool that an unfinished recording has used is not used again.
        self._pool = torch.cuda.graph_pool_handle()
        if isinstance(failed, torch.OutOfMemoryError):
            raise failed
        raise CaptureError(f"{type(failed).__name__}: {failed}".splitlines()[0]) from failed

    def release(self) -> None:
        torch.cuda.empty_cache()

    def broken(self) -> str | None:
        return probed(self._device)


def lane_of(device: torch.device | str) -> Lane:
    """The lane of a device, for one engine."""
    return CudaLane(device) if torch.device(device).type == "cuda" else PlainLane(device)


def _nothing() -> None:
    pass
