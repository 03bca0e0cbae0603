"""Whose turn it is: the groups of an engine, and the batches that its threads take from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from math import ceil
from typing import Any

from workers.engine.batch import Advanced, Batch
from workers.engine.group import Group, group_key
from workers.engine.member import Member
from workers.engine.policy import Policy
from workers.engine.running import Running
from workers.engine.sizes import Sizes
from workers.engine.tickets import CancelledError

log = logging.getLogger(__name__)


class Schedule:
    """Gives every group one step in turn, each to one thread or in parts to several.

    Used under the engine's lock. Tasks that are cancelled or fail end here.

    Args:
        max_rows: the most rows of a batch.
        threads: how many batches are advanced at the same time.
        policy: when groups wait for company.
        running: how steps are run.
        examine: called with an error before anybody is told of it; raises if it is the device's, and all must end.
    """

    def __init__(
        self, max_rows: int, threads: int, policy: Policy, running: Running, examine: Callable[[Exception], None]
    ) -> None:
        self._max_rows, self._threads, self._policy = max_rows, threads, policy
        self._running, self._examine = running, examine
        self._groups: dict[Any, Group] = {}  # the one that had its turn last is the last
        self._taken = 0  # batches that are being advanced

    @property
    def empty(self) -> bool:
        return not self._groups

    @property
    def groups(self) -> Iterable[Group]:
        return self._groups.values()

    def place(self, member: Member, sizes: Sizes) -> None:
        """Put a loop's rows where they belong.

        Args:
            member: the loop.
            sizes: batch sizes at which its kernel's results agree bit for bit.
        """
        fresh = Group(member.loop.kernel, self._running, sizes, self._policy)
        group = self._groups.setdefault(group_key(member.loop), fresh)
        group.add(member)

    def take(self) -> tuple[Group, Batch] | None:
        """The batch whose turn it is; :meth:`settle` takes it back. None: there is none, or others advance them all."""
        while True:
            gathering = False
            for key, group in list(self._groups.items()):
                self._drop_cancelled(group)
                if group.empty:
                    del self._groups[key]
                elif self._gathers(group):
                    group.waited += 1
                    gathering = True
                elif batch := self._take_from(group):
                    group.waited = 0
                    self._groups[key] = self._groups.pop(key)
                    self._taken += 1
                    return group, batch
            if not gathering or self._taken:
                return None

    @property
    def more(self) -> bool:
        """Whether there is work for another thread."""
        parts = self._parts()
        return any(group.ready(self._max_rows, parts) and not self._gathers(group) for group in self._groups.values())

    def settle(self, group: Group, batch: Batch, advanced: Advanced, seconds: float) -> list[Member]:
        """Take back a batch after its steps, which took so long; gives the members that have no row left to advance."""
        self._taken -= 1
        group.step_seconds = min(group.step_seconds, seconds / max(1, advanced.steps))
        batch.busy = False
        try:
            if not advanced.failed:
                return batch.settle(advanced.rows, advanced.steps)
            failed = dict(advanced.failed)
        except Exception as error:
            self._give_up(group, error)
            return []
        for reason in failed.values():
            self._examine(reason)
        self._fail(group, failed)
        return []

    def _take_from(self, group: Group) -> Batch | None:
        try:
            return group.take(self._max_rows, self._parts())
        except Exception as error:
            self._give_up(group, error)
            return None

    def _parts(self) -> int:
        """In how many batches a group is advanced: as many as give all threads work."""
        lasting = sum(not group.brief for group in self._groups.values())
        return ceil(self._threads / max(1, lasting))

    def _gathers(self, group: Group) -> bool:
        """Whether one-step loops wait for company: only for a few turns, and only while chains advance."""
        if not group.brief or group.waited >= self._policy.gather_turns or group.waiting_rows >= self._max_rows:
            return False
        return any(not other.brief for other in self._groups.values() if other is not group)

    def _drop_cancelled(self, group: Group) -> None:
        self._fail(group, {member: CancelledError() for member in group.members() if member.ticket.cancelled})

    def _give_up(self, group: Group, error: Exception) -> None:
        """A fault of the engine itself must not leave anybody waiting."""
        self._examine(error)
        log.error("the engine failed; its group is given up", exc_info=error)
        self._fail(group, dict.fromkeys(group.members(), error))

    @staticmethod
    def _fail(group: Group, errors: dict[Member, Exception]) -> None:
        """End the tasks of members, unless they were cancelled while others looked for their fault."""
        if errors:
            left = group.members()
            group.remove(errors)
            for member in left:
                if member in errors:
                    member.ticket.end(errors[member])
