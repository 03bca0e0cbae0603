"""Continuous batching of loops: rows of many jobs advance together, join at any step and leave at their own.

Its threads give every group (rows with the same kernel and shapes) one step in turn, or a few where the device replays
them from a graph. On an accelerator there is one thread. On a CPU there are several: small networks keep several cores
busy far better as several batches than as one whose every operation is divided, and none of the threads waits for
another. A group's rows stay packed while its members do not change; they are packed anew only when a row joins or
leaves. Rows enter a group by priority, within it the owners' in turn, and each owner's in order of arrival. They enter
one by one, so that a large job needs no gap of its own size and keeps nobody else's out.

All that is told here happens under one lock, the tasks' own code too; only kernels run without it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from models.core.loop import Kernel, Task
from workers.chains.chain import Chain
from workers.engine.batch import Batch
from workers.engine.driving import Driver
from workers.engine.group import Group
from workers.engine.lanes import Lane, lane_of
from workers.engine.member import Member
from workers.engine.policy import Policy
from workers.engine.running import running_of
from workers.engine.saver import Saver
from workers.engine.schedule import Schedule
from workers.engine.sizes import Sizes, tried_sizes
from workers.engine.tickets import StoppedError, Ticket

log = logging.getLogger(__name__)


class DeviceLostError(RuntimeError):
    """The device can't be used by this process any more; the message says why."""


class Engine:
    """The threads that touch the device, and what they work on.

    Args:
        max_rows: the most rows of a batch.
        device: where the rows live.
        checkpoint_seconds: how often the chains of tasks are kept that have run for so long; 0: never.
        threads: how many batches are advanced at the same time.
        policy: when groups wait for company, and how small their batches may be.
        lane: where its work on the device goes; None: the one of the device.
        fast: whether steps are replayed from graphs, where the lane records them.
        on_failure: called from a thread of the engine that has failed, before its tasks end.
    """

    def __init__(
        self,
        max_rows: int = 32,
        device: torch.device | str = "cpu",
        checkpoint_seconds: float = 0.0,
        threads: int = 1,
        policy: Policy = Policy(),  # noqa: B008 (it is immutable)
        *,
        lane: Lane | None = None,
        fast: bool = True,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        self.max_rows, self.device, self.checkpoint_seconds = max_rows, torch.device(device), checkpoint_seconds
        self.steps = 0
        self.rows_advanced = 0
        self.busy_seconds = 0.0  # of all threads together
        self._threads = [threading.Thread(target=self._work, name=f"engine-{k}", daemon=True) for k in range(threads)]
        self._working = threads
        self._lane = lane or lane_of(self.device)
        self._running = running_of(self._lane, fast)
        self._schedule = Schedule(max_rows, threads, policy, self._running, self._examine)
        self._driver = Driver(self.device, self._lane, self._place, self._examine)
        self._on_failure = on_failure
        self._sizes: dict[Kernel, Sizes] = {}
        # Not exact sizes, but few: steps are recorded for each.
        self._usual: Sizes = tuple(tried_sizes(max_rows, self.device)) if self._running.most > 1 else ()
        self._state = threading.Lock()
        self._new: deque[Ticket[Any]] = deque()
        self._wake = threading.Condition()
        self._resting = 0  # threads that have found nothing to do
        self._called = 0  # of these, those that are to look again
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
    def threads(self) -> int:
        """How many batches it advances at the same time."""
        return len(self._threads)

    @property
    def chains_saved(self) -> int:
        """How many chains of running tasks were kept."""
        return self._saver.kept

    # Called from other threads

    def start(self) -> None:
        """Begin to work on tasks."""
        self._saver.start()
        for thread in self._threads:
            thread.start()

    def is_alive(self) -> bool:
        """Whether it works on tasks."""
        return all(thread.is_alive() for thread in self._threads)

    def submit(
        self,
        task: Task[Any],
        *,
        priority: int = 5,
        preview_every: int = 0,
        resume: Chain | None = None,
        keep: Callable[[Chain], None] | None = None,
        owner: str | None = None,
    ) -> Ticket[Any]:
        """Hand over a task; the ticket tells its progress and result.

        Args:
            task: the generator, not started.
            priority: 9 is admitted first, 0 last.
            preview_every: show the rows every so many steps (0: never).
            resume: where the task goes on; its ticket fails with :class:`ChainError` if it is not this task's.
            keep: called from another thread with the task's chain, every ``checkpoint_seconds``.
            owner: whose it is; None: nobody's.
        """
        ticket: Ticket[Any] = Ticket(task, priority, preview_every, resume, keep, owner)
        with self._wake:
            if self._stopping:
                ticket.fail(StoppedError(resume))
                return ticket
            self._new.append(ticket)
            self._wake.notify()
        return ticket

    def examine(self, error: Exception) -> None:
        """Whoever has met an error outside of the engine has it looked at: it may be the device's.

        Raises:
            StoppedError: nothing can be done on the device any more, and the engine's failure was told.
        """
        try:
            self._examine(error)
        except DeviceLostError as lost:
            self._fail(lost)
            raise StoppedError from lost

    def pad_to(self, sizes: Mapping[Kernel, Sizes]) -> None:
        """Batches of these kernels are padded to sizes at which a row gets the same bits."""
        with self._wake:  # two models may be loaded at the same time
            self._sizes = {**self._sizes, **sizes}

    def sizes_of(self, kernel: Kernel) -> Sizes:
        """The sizes of a kernel's batches, the last one what fits at once; empty: any."""
        return self._sizes.get(kernel) or self._usual

    def forget(self, kernels: Sequence[Kernel]) -> None:
        """Drop what is known of the kernels of a model that was unloaded."""
        with self._wake:
            self._sizes = {kernel: sizes for kernel, sizes in self._sizes.items() if kernel not in kernels}
        self._running.forget(kernels)

    def stop(self, timeout: float | None = 10.0) -> None:
        """End the threads after the steps that they are in; unfinished tickets fail with :class:`StoppedError`."""
        self._end_work()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout)

    # The engine's own threads

    def _work(self) -> None:
        torch.set_flush_denormal(True)
        torch.get_num_threads()  # a new thread takes over what was set for the process when it is asked, and not before
        try:
            with self._lane.entered():
                while self._round():
                    pass
        except Exception as error:
            self._fail(error)
        finally:  # if one of them fails, the others end, too, and the worker takes no more jobs
            self._end_work()
            with self._state:
                self._working -= 1
                last = not self._working
            if last:
                self._saver.stop()
                self._driver.end(self._schedule.groups, self._new)

    def _fail(self, error: Exception) -> None:
        log.critical("the engine has failed: %s", error, exc_info=error)
        if self._on_failure:
            self._on_failure(error)

    def _end_work(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    def _round(self) -> bool:
        """Wait for work and give a group a turn; False when the engine is to stop.

        A method of its own, so that an idle engine holds nothing of the tasks that it had last.
        """
        turn = self._next_turn()
        if turn is None:
            return False
        self._turn(*turn)
        return True

    def _next_turn(self) -> tuple[Group, Batch] | None:
        """What this thread is to advance, once there is anything; None when the engine is to stop."""
        while not self._stopping:
            with self._state:
                turn = self._find_turn()
            if turn is not None:
                return turn
            with self._wake:
                self._wake.wait_for(lambda: self._new or self._called or self._stopping)
                self._called = max(0, self._called - 1)
                self._resting -= 1
        return None

    def _find_turn(self) -> tuple[Group, Batch] | None:
        """Begin the tasks that have come, and take the next batch; see to it that no other thread rests needlessly."""
        while self._new:
            self._driver.begin(self._new.popleft())
        turn = self._schedule.take()
        if self.checkpoint_seconds:
            self._save()
        if not self._schedule.empty:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = time.monotonic()
        with self._wake:
            if turn is None:
                self._resting += 1
            elif self._resting > self._called and self._schedule.more:
                self._called += 1
                self._wake.notify()
        return turn

    def _turn(self, group: Group, batch: Batch) -> None:
        """Some steps of one batch; tasks go on whose rows have finished."""
        rows, started = batch.size, time.perf_counter()
        advanced = batch.advance()
        seconds = time.perf_counter() - started
        with self._state:
            self.steps += advanced.steps
            self.rows_advanced += rows * advanced.steps
            self.busy_seconds += seconds
            for member in self._schedule.settle(group, batch, advanced, seconds):
                try:
                    result = member.result()
                except Exception as error:
                    self._examine(error)
                    member.ticket.end(error)
                else:
                    member.ticket.results.append(member.loop.kept(result))
                    self._driver.advance(member.ticket, result)

    def _save(self) -> None:
        """Have another thread keep the chains of tasks that have run for a while. Short ones are done before that."""
        now = time.monotonic()
        if now < self._next_save or not self._saver.free:
            return
        self._next_save = now + self.checkpoint_seconds
        begun = now - self.checkpoint_seconds
        for group in self._schedule.groups:
            self._saver.add(group.snapshots(lambda ticket: ticket.keep is not None and ticket.submitted <= begun))
        self._saver.go()

    def _examine(self, error: Exception) -> None:
        """Tell an error of a task or a kernel from one of the device.

        Raises:
            DeviceLostError: nothing can be done on the device any more.
        """
        if (why := self._lane.broken()) is not None:
            raise DeviceLostError(f"the device {str(self.device)!r} can't be used any more: {why}") from error

    def _place(self, member: Member) -> None:
        self._schedule.place(member, self.sizes_of(member.loop.kernel))
