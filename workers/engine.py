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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from models.loop import Kernel, Loop, Rows, Task
from workers.chains import Chain, ChainError
from workers.exact import Agreement
from workers.group import Group, group_key
from workers.member import Member
from workers.saver import Saver
from workers.tickets import CancelledError, StoppedError, Ticket

log = logging.getLogger(__name__)


GATHER_TURNS = 6
"""For how many turns at most a one-step loop waits for others, while rows of other groups advance."""

FEED_TURNS = 2
"""The same for each step of a batch that is not full, while rows advance that will join it next."""


class Engine(threading.Thread):
    """The one thread that touches the device.

    Args:
        max_rows: the most rows that one step advances together.
        device: where the rows live.
        checkpoint_seconds: how often the chains of tasks are kept that have run for so long; 0: never.
    """

    def __init__(self, max_rows: int = 32, device: torch.device | str = "cpu", checkpoint_seconds: float = 0.0) -> None:
        super().__init__(name="engine", daemon=True)
        self.max_rows, self.device, self.checkpoint_seconds = max_rows, torch.device(device), checkpoint_seconds
        self.steps = 0
        self.rows_advanced = 0
        self.busy_seconds = 0.0
        self._agreements: dict[Kernel, Agreement] = {}
        self._groups: dict[Any, Group] = {}
        self._new: deque[Ticket[Any]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._saver = Saver()
        self._next_save = 0.0
        self._idle_since: float | None = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """For how long it has had nothing to do; 0 while there is something."""
        since = self._idle_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def chains_saved(self) -> int:
        """How many chains of running tasks were kept."""
        return self._saver.kept

    # Called from other threads

    def submit(
        self,
        task: Task[Any],
        *,
        priority: int = 5,
        preview_every: int = 0,
        resume: Chain | None = None,
        keep: Callable[[Chain], None] | None = None,
    ) -> Ticket[Any]:
        """Hand over a task; the ticket tells its progress and result.

        Args:
            task: the generator, not started.
            priority: 9 is admitted first, 0 last.
            preview_every: show the rows every so many steps (0: never).
            resume: where the task goes on; its ticket fails with :class:`ChainError` if it is not this task's.
            keep: called from another thread with the task's chain, every ``checkpoint_seconds``.
        """
        ticket: Ticket[Any] = Ticket(task, priority, preview_every, resume, keep)
        with self._wake:
            if self._stopping:
                ticket.fail(StoppedError(resume))
                return ticket
            self._new.append(ticket)
            self._wake.notify()
        return ticket

    def pad_to(self, agreements: Mapping[Kernel, Agreement]) -> None:
        """Batches of these kernels are padded to sizes at which a row gets the same bits."""
        with self._wake:  # two models may be loaded at the same time
            self._agreements = {**self._agreements, **agreements}

    def forget(self, kernels: Sequence[Kernel]) -> None:
        """Drop what is known of the kernels of a model that was unloaded."""
        with self._wake:
            self._agreements = {kernel: a for kernel, a in self._agreements.items() if kernel not in kernels}

    def stop(self, timeout: float | None = 10.0) -> None:
        """End the thread after the step that it is in; unfinished tickets fail with :class:`StoppedError`."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self.is_alive():
            self.join(timeout)

    # The engine's own thread

    def run(self) -> None:
        torch.set_flush_denormal(True)
        self._saver.start()
        while self._round():
            pass
        self._saver.stop()
        self._end_all()

    def _round(self) -> bool:
        """Wait for work and give every group a turn; False when the engine is to stop.

        A method of its own, so that an idle engine holds nothing of the tasks that it had last.
        """
        fresh = self._wait()
        if fresh is None:
            return False
        for ticket in fresh:
            self._begin(ticket)
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
        if self.checkpoint_seconds:
            self._save()
        return True

    def _wait(self) -> list[Ticket[Any]] | None:
        """New tickets, once there is anything to do; None when the engine is to stop."""
        with self._wake:
            if not (self._new or self._groups or self._stopping):
                self._idle_since = time.monotonic()
                self._wake.wait_for(lambda: self._new or self._stopping)
            self._idle_since = None
            if self._stopping:
                return None
            fresh = list(self._new)
            self._new.clear()
            return fresh

    def _save(self) -> None:
        """Have another thread keep the chains of tasks that have run for a while. Short ones are done before that."""
        now = time.monotonic()
        if now < self._next_save or not self._saver.free:
            return
        self._next_save = now + self.checkpoint_seconds
        begun = now - self.checkpoint_seconds
        for group in self._groups.values():
            self._saver.add(group.snapshots(lambda ticket: ticket.keep is not None and ticket.submitted <= begun))
        self._saver.go()

    def _end_all(self) -> None:
        """Every task ends here, and can go on elsewhere from where it is."""
        for group in self._groups.values():
            for ticket, snapshot in group.snapshots(lambda ticket: True).items():
                self._end(ticket, CancelledError() if ticket.cancelled else StoppedError(snapshot.chain()))
        for ticket in self._new:
            self._end(ticket, CancelledError() if ticket.cancelled else StoppedError(ticket.resume))

    def _give_up(self, group: Group, error: Exception) -> None:
        members = group.members()
        group.remove(members)
        for member in members:
            self._end(member.ticket, error)

    def _gathers(self, group: Group) -> bool:
        """Whether a group waits for company. Only for a few turns, and only while others advance: a network call for
        one row costs a good part of one for thirty-two, and jobs drift apart, most of all on their way through the
        chains of several sizes.
        """
        others = [other for other in self._groups.values() if other is not group and not other.brief]
        if group.brief:
            turns, rows = GATHER_TURNS if others else 0, group.waiting_rows
        else:
            fed = any(other.kernel in group.feeders for other in others)
            turns, rows = FEED_TURNS if fed else 0, group.rows
        if rows >= self.max_rows or group.waited >= turns:
            group.waited = 0
            return False
        group.waited += 1
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
                member.ticket.results.append(result)
                self._advance(member.ticket, result, member.loop)

    def _begin(self, ticket: Ticket[Any]) -> None:
        if ticket.resume is None:
            self._advance(ticket, None)
        elif ticket.cancelled:
            self._end(ticket, CancelledError())
        else:
            self._resume(ticket, ticket.resume)

    def _resume(self, ticket: Ticket[Any], chain: Chain) -> None:
        """Drive a task anew to the loop in which it was saved, and put that loop's rows where they belong."""
        try:
            loop = next(ticket.task)
            for saved in chain.results:
                ticket.begin(loop)
                ticket.results.append(self._to_device(saved))
                loop = ticket.task.send(ticket.results[-1])
            chain.check(loop)
        except Exception as error:
            own = isinstance(error, ChainError)
            self._end(ticket, error if own else ChainError(f"its task does not take it: {error!r}"))
            return
        here = replace(chain, rows=self._to_device(chain.rows))
        self._place(Member(ticket, loop, ticket.begin(loop), here))

    def _to_device(self, rows: Rows) -> Rows:
        return {k: v.to(self.device) for k, v in rows.items()}

    def _advance(self, ticket: Ticket[Any], rows: Rows | None, last: Loop | None = None) -> None:
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
            ticket.show_start(loop)
            if loop.steps > 0 and loop.seeds:
                group = self._place(Member(ticket, loop, number))
                if last and last.steps > 1:
                    group.feeders.add(last.kernel)
                return
            rows = loop.rows
            ticket.results.append(rows)

    def _place(self, member: Member) -> Group:
        key = group_key(member.loop)
        if key not in self._groups:
            kernel = member.loop.kernel
            self._groups[key] = Group(kernel, self._agreements.get(kernel, Agreement()))
        self._groups[key].add(member)
        return self._groups[key]

    @staticmethod
    def _end(ticket: Ticket[Any], error: Exception) -> None:
        """Close the task's generator (its ``finally`` blocks run here), then tell whoever waits."""
        try:
            ticket.task.close()
        except Exception:
            log.exception("a task failed while it was closed")
        ticket.fail(error)
