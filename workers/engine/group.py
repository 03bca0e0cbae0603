"""A group: the rows that share a kernel, in as many batches as threads may advance at the same time."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection
from math import ceil, inf
from typing import Any

import torch

from models.core.loop import Kernel, Loop, Rows
from workers.chains.chain import Part, Snapshot
from workers.engine.batch import Batch
from workers.engine.member import Member, Slot
from workers.engine.policy import Policy
from workers.engine.running import Running
from workers.engine.sizes import Sizes
from workers.engine.tickets import Ticket
from workers.engine.turns import Turns


def group_key(loop: Loop) -> tuple[Any, ...]:
    """What two loops must share to be in one batch: the kernel object, and names, shapes, types of the state."""
    return loop.kernel, tuple(sorted((k, tuple(v.shape[1:]), v.dtype) for k, v in loop.rows.items()))


class Group:
    """The members of one group and their batches.

    Args:
        kernel: what advances them.
        running: how steps are run.
        sizes: batch sizes at which this kernel's results agree bit for bit.
        policy: how small its batches may be.

    Attributes:
        waited: for how many turns it has waited for company.
        step_seconds: how long its shortest step took; others may have waited for a processor.
    """

    def __init__(self, kernel: Kernel, running: Running, sizes: Sizes, policy: Policy) -> None:
        self.kernel, self._running, self._sizes, self._policy = kernel, running, sizes, policy
        self.waited = 0
        self.step_seconds = inf
        self._moved: set[str] = set()
        self._waiting: list[Member] = []
        self._turns = Turns()
        self._batches: list[Batch] = []  # the one that had its turn last is the last

    @property
    def empty(self) -> bool:
        return not self.rows

    @property
    def waiting_rows(self) -> int:
        """How many rows have not been admitted yet."""
        return sum(len(member.todo) - member.admitted for member in self._waiting)

    @property
    def packed_rows(self) -> int:
        """How many rows are in batches."""
        return sum(batch.size for batch in self._batches)

    @property
    def rows(self) -> int:
        """How many rows are here, waiting or packed."""
        return self.waiting_rows + self.packed_rows

    @property
    def brief(self) -> bool:
        """True if nothing here takes more than one step."""
        waiting = all(member.loop.steps == 1 for member in self._waiting)
        return waiting and all(batch.brief for batch in self._batches)

    def _small(self, max_rows: int) -> bool:
        """True if it is not worth two batches."""
        least = 1 if self._policy.long_step < self.step_seconds < inf else self._policy.least_rows
        return self.rows < 2 * least and self.rows <= max_rows

    def members(self) -> list[Member]:
        """Every member, waiting or packed, once."""
        return list(dict.fromkeys([*(m for batch in self._batches for m in batch.members()), *self._waiting]))

    def add(self, member: Member) -> None:
        insort(self._waiting, member, key=lambda m: m.order)

    def remove(self, members: Collection[Member]) -> None:
        """Take members out, waiting or packed; the other rows stay as they are."""
        gone = set(members)
        self._waiting = [m for m in self._waiting if m not in gone]
        for batch in self._batches:
            batch.remove(gone)

    def ready(self, max_rows: int, parts: int) -> bool:
        """Whether :meth:`take` would give a batch."""
        if self._small(max_rows) and not self.brief and any(batch.busy for batch in self._batches):
            return False
        if any(not batch.busy and batch.size for batch in self._batches):
            return True
        return bool(self._waiting) and sum(batch.busy for batch in self._batches) < parts

    def take(self, max_rows: int, parts: int) -> Batch | None:
        """The batch whose turn it is, filled with waiting rows and marked as busy.

        Args:
            max_rows: the most rows of a batch.
            parts: the most batches; they get as many rows each.

        Returns:
            None if there is nothing to advance, or other threads have taken it all.
        """
        batches = [batch for batch in self._batches if batch.busy or batch.size]
        idle = [batch for batch in batches if not batch.busy]
        whole = self.brief or self._small(max_rows)
        if whole and not self.brief and len(idle) < len(batches):
            return None  # its rows join those that another thread advances
        batch = idle[0] if idle else None
        if batch is None:
            if not self._waiting or len(batches) >= parts:
                return None
            batch = Batch(self.kernel, self._running, self._sizes, self._moved)
        self._batches = [*(other for other in batches if other is not batch), batch]
        if whole and not self.brief:
            batch.absorb(idle[1:])
        share = self.rows if whole else ceil(self.rows / parts)
        self._admit(batch, min(share, max_rows) - batch.size)
        if not batch.size:
            return None
        if batch.size > share and len(self._batches) < parts:
            self._batches.insert(0, batch.split(ceil(batch.size / 2)))
        batch.begin()
        return batch

    def _admit(self, batch: Batch, free: int) -> None:
        """Add up to so many waiting rows to a batch, fewer where the device has no memory for them."""
        fresh: list[Slot] = []
        parts: list[Rows] = []
        ends: dict[Member, int] = {}
        for member, rows in self._turns.shares(self._waiting, free).items():
            start, end = member.admitted, member.admitted + rows
            fresh += [Slot(member, row) for row in member.todo[start:end]]
            parts.append(member.starts(start, end))
            ends[member] = end
        try:
            batch.pack(fresh, parts)
        except torch.OutOfMemoryError:
            if free > 1:
                self._admit(batch, free // 2)
            elif not batch.size:
                raise
            return  # those that are in it go on, and make room
        for member, end in ends.items():
            member.admitted = end
        self._waiting = [member for member in self._waiting if member.admitted < len(member.todo)]

    def snapshots(self, wanted: Callable[[Ticket[Any]], bool]) -> dict[Ticket[Any], Snapshot]:
        """Where the rows of the wanted tickets are."""
        packed: dict[Member, list[Part]] = {member: [] for member in self.members() if wanted(member.ticket)}
        for batch in self._batches:
            for member, part in batch.parts(packed).items():
                packed[member].append(part)
        return {member.ticket: member.snapshot(parts) for member, parts in packed.items()}
