"""Continuous batching of loops: rows of many jobs advance together, join at any step and leave at their own.

One thread owns the device. It gives every group (rows with the same kernel and shapes) one step in turn. A group's rows
stay packed in one batch while its members do not change; they are packed anew only when a row joins or leaves. Jobs
enter a group by priority, then in order of arrival, row by row, so that a large job needs no gap of its own size.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from models.loop import Kernel, Loop, Rows, Task
from workers.group import Group, Member, group_key
from workers.tickets import CancelledError, Ticket

log = logging.getLogger(__name__)


GATHER_TURNS = 6
"""For how many turns at most a one-step loop waits for others, while rows of other groups advance."""


class Engine(threading.Thread):
    """The one thread that touches the device.

    Args:
        max_rows: the most rows that one step advances together.
        device: where the rows live.
    """

    def __init__(self, max_rows: int = 32, device: torch.device | str = "cpu") -> None:
        super().__init__(name="engine", daemon=True)
        self.max_rows, self.device = max_rows, torch.device(device)
        self.steps = 0
        self.rows_advanced = 0
        self.busy_seconds = 0.0
        self._sizes: dict[Kernel, Sequence[int]] = {}
        self._groups: dict[Any, Group] = {}
        self._new: deque[Ticket[Any]] = deque()
        self._wake = threading.Condition()
        self._stopping = False

    # Called from other threads

    def submit(self, task: Task[Any], *, priority: int = 5, preview_every: int = 0) -> Ticket[Any]:
        """Hand over a task; the ticket tells its progress and result."""
        ticket: Ticket[Any] = Ticket(task, priority, preview_every)
        with self._wake:
            if self._stopping:
                ticket.fail(RuntimeError("the engine has been stopped"))
                return ticket
            self._new.append(ticket)
            self._wake.notify()
        return ticket

    def pad_to(self, sizes: Mapping[Kernel, Sequence[int]]) -> None:
        """Batches of these kernels are padded to the sizes given (each ascending, the last one ``max_rows``)."""
        self._sizes = {**self._sizes, **sizes}

    def forget(self, kernels: Sequence[Kernel]) -> None:
        """Drop what is known of the kernels of a model that was unloaded."""
        self._sizes = {kernel: sizes for kernel, sizes in self._sizes.items() if kernel not in kernels}

    def stop(self, timeout: float | None = 10.0) -> None:
        """End the thread after the step that it is in; unfinished tickets fail."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self.is_alive():
            self.join(timeout)

    # The engine's own thread

    def run(self) -> None:
        torch.set_flush_denormal(True)
        while True:
            with self._wake:
                while not (self._new or self._groups or self._stopping):
                    self._wake.wait()
                if self._stopping:
                    break
                fresh = list(self._new)
                self._new.clear()
            for ticket in fresh:
                self._advance(ticket, None)
            for key, group in list(self._groups.items()):
                if self._gathers(group):
                    continue
                try:
                    self._turn(group)
                except Exception as error:  # a fault of the engine itself must not leave anybody waiting
                    log.exception("the engine failed; its group is given up")
                    self._give_up(group, error)
                if group.empty:
                    del self._groups[key]
        stopped = RuntimeError("the engine was stopped")
        for group in self._groups.values():
            self._give_up(group, stopped)
        for ticket in self._new:
            self._end(ticket, stopped)

    def _give_up(self, group: Group, error: Exception) -> None:
        members = group.members()
        group.remove(members)
        for member in members:
            self._end(member.ticket, error)

    def _gathers(self, group: Group) -> bool:
        """Whether a group of one-step loops waits for company. Only for a few turns, and only while others advance:
        a network call for one row costs half as much as for thirty-two, and jobs drift apart.
        """
        busy = any(not other.brief for other in self._groups.values())
        if not (busy and group.brief and group.waiting_rows < self.max_rows and group.patience > 0):
            group.patience = GATHER_TURNS
            return False
        group.patience -= 1
        return True

    def _turn(self, group: Group) -> None:
        """One step of one group."""
        cancelled = [member for member in group.members() if member.ticket.cancelled]
        group.remove(cancelled)
        for member in cancelled:
            self._end(member.ticket, CancelledError())
        if group.empty:
            return
        started = time.perf_counter()
        rows = group.admit(self.max_rows)
        done, failed = group.step()
        self.steps += 1
        self.rows_advanced += rows
        self.busy_seconds += time.perf_counter() - started
        for member, error in failed:
            self._end(member.ticket, error)
        for member in done:
            try:
                result = member.result()
            except Exception as error:
                self._end(member.ticket, error)
            else:
                self._advance(member.ticket, result)

    def _advance(self, ticket: Ticket[Any], rows: Rows | None) -> None:
        """Send a task the rows of its last loop, and put its next loop into the group where it belongs."""
        while True:
            if ticket.cancelled:
                self._end(ticket, CancelledError())
                return
            try:
                loop = ticket.task.send(rows)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration as stop:
                ticket.finish(stop.value)
                return
            except Exception as error:
                ticket.fail(error)
                return
            number = ticket.begin(loop)
            if loop.steps > 0 and loop.seeds:
                self._place(Member(ticket, loop, number))
                return
            rows = loop.rows

    def _place(self, member: Member) -> None:
        loop: Loop = member.loop
        key = group_key(loop)
        if key not in self._groups:
            self._groups[key] = Group(loop.kernel, self._sizes.get(loop.kernel, ()), GATHER_TURNS)
        self._groups[key].add(member)

    @staticmethod
    def _end(ticket: Ticket[Any], error: Exception) -> None:
        """Close the task's generator (its ``finally`` blocks run here), then tell whoever waits."""
        try:
            ticket.task.close()
        except Exception:
            log.exception("a task failed while it was closed")
        ticket.fail(error)
