"""A procedure that is replayed as one CUDA graph, so that a GPU does not wait for Python to launch its operations."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar, final

import torch

_LOG = logging.getLogger(__name__)
_EAGER = 3
"""Calls as it is before it is captured: libraries choose their algorithms in them, and optimizers make their state."""

R = TypeVar("R")


@final
class Replayed(Generic[R]):
    """A procedure whose tensors stay where they are: on a GPU it is captured at its fourth call and replayed from then.

    Its inputs are tensors that it knows, written before a call; what it returns is overwritten by the next call. It
    reads no number of a tensor on the host, and its shapes and branches are the same at every call. On a CPU, and where
    it can't be captured, it is called as it is.

    Args:
        body: the procedure.
        device: where its tensors are.
    """

    def __init__(self, body: Callable[[], R], device: torch.device) -> None:
        self._body, self._calls = body, 0
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: R | None = None

    @property
    def captured(self) -> bool:
        """Whether calls are replays."""
        return self._graph is not None

    def __call__(self) -> R:
        if self._stream is None:
            return self._body()
        current = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = self._on_stream()
        current.wait_stream(self._stream)
        return result

    def _on_stream(self) -> R:
        self._calls += 1
        if self._calls == _EAGER + 1:
            self._capture()
        if self._graph is None or self._result is None:
            return self._body()
        self._graph.replay()
        return self._result

    def _capture(self) -> None:
        torch.cuda.empty_cache()  # the graph has memory of its own
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._result = self._body()
        except RuntimeError as error:
            _LOG.warning("not captured as a CUDA graph, so it runs slower: %s", error)
            return
        self._graph = graph
