"""What a job's own thread holds while the engine works on its task."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from models.core.loop import Loop, Rows, Task
from workers.chains.chain import Chain
from workers.engine.lanes import Mark

R = TypeVar("R")

log = logging.getLogger(__name__)


class CancelledError(Exception):
    """The ticket was cancelled before its task ended."""


class StoppedError(RuntimeError):
    """The engine was stopped before the task ended.

    Args:
        chain: where the task was, so that another engine can go on; None if it had not begun here.
    """

    def __init__(self, chain: Chain | None = None) -> None:
        super().__init__("the engine was stopped")
        self.chain = chain


@dataclass(frozen=True)
class Preview:
    """Pictures of a task's rows, half-way.

    Args:
        step: the step that the rows have finished, counted over all loops of the task that can be shown.
        rows: the numbers of the job's rows that are shown.
        images: ``[len(rows), C, H, W]`` in [-1, 1].
        energies: of each of these rows; None where the method has none.
    """

    step: int
    rows: tuple[int, ...]
    images: Tensor
    energies: tuple[float | None, ...]


class Ticket(Generic[R]):
    """One task in the engine. The engine's threads write, one at a time, any other thread reads, cancels and waits.

    Args:
        task: the generator.
        priority: 9 is admitted first, 0 last.
        preview_every: show the rows every so many steps (0: never).
        resume: where the task goes on.
        keep: called from another thread with the task's chain, again and again while it runs.
        owner: whose it is; the rows of owners enter batches in turn. None: nobody's.
    """

    def __init__(
        self,
        task: Task[R],
        priority: int = 5,
        preview_every: int = 0,
        resume: Chain | None = None,
        keep: Callable[[Chain], None] | None = None,
        owner: str | None = None,
    ) -> None:
        self.task, self.priority, self.preview_every, self.owner = task, priority, preview_every, owner
        self.resume, self.keep = resume, keep
        self.submitted = time.monotonic()
        self.results: list[Rows] = []
        """Of each loop that has finished, what it keeps."""
        self.stage, self.step, self.steps = "waiting", 0, 0
        self.cancelled = False
        self.before = 0
        """Steps of the loops before the present one that can be shown."""
        self._shown_steps = 0
        self._loops = 0
        self._events: queue.SimpleQueue[Preview | None] = queue.SimpleQueue()
        self._result: R | None = None
        self._made: Mark | None = None
        self._error: Exception | None = None

    # For the job's thread

    def cancel(self) -> None:
        """Leave between two steps; neighbours are not touched. Without effect once the task has ended."""
        self.cancelled = True

    def previews(self) -> Iterator[Preview]:
        """Previews as they come; ends when the task has ended."""
        while (event := self._events.get()) is not None:
            yield event
        self._events.put(None)  # whoever asks again is answered at once

    def result(self) -> R:
        """Wait for the task's result.

        Raises:
            CancelledError: it was cancelled.
            Exception: whatever its task, kernel or rows raised.
        """
        for _ in self.previews():
            pass
        if self._error is not None:
            raise self._error
        if self._made is not None:
            self._made()
        return self._result  # type: ignore[return-value]

    # For the engine's threads

    def begin(self, loop: Loop) -> int:
        """Note the start of the task's next loop; returns the loop's number."""
        self.stage, self.step, self.steps = loop.name, 0, loop.steps
        self.before = self._shown_steps
        if loop.preview:
            self._shown_steps += loop.steps
        self._loops += 1
        return self._loops - 1

    def show_start(self, loop: Loop) -> None:
        """Show the rows that a loop begins with, if they are due: proposals, or the end of the loop before it."""
        if loop.preview and self.preview_every and self.before % self.preview_every == 0:
            images, energies = loop.shown(loop.rows)
            self.show(Preview(self.before, tuple(range(len(loop.seeds))), images, tuple(energies)))

    def show(self, preview: Preview) -> None:
        self._events.put(preview)

    def finish(self, result: R, made: Mark | None = None) -> None:
        """The task's result, which is there once the device has come to the mark."""
        self._result, self._made = result, made
        self._events.put(None)

    def end(self, error: Exception) -> None:
        """Close the task's generator (its ``finally`` blocks run here), then tell whoever waits."""
        try:
            self.task.close()
        except Exception:
            log.exception("a task failed while it was closed")
        self.fail(error)

    def fail(self, error: Exception) -> None:
        self._error = error
        self._events.put(None)
