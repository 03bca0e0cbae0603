"""Whose row enters a batch next: by priority, and within it the owners in turn, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from workers.engine.member import Member


@final
class Turns:
    """The turns of the owners whose members wait for one group.

    The rule is that of the store's queue: an owner's next turn is the one after its last, but never before the turn of
    the row that entered last, so that nobody saves turns up. Among equal turns the member goes first that came first.
    """

    def __init__(self) -> None:
        self._now = 0
        self._last: dict[str | None, int] = {}

    def shares(self, waiting: Sequence[Member], free: int) -> dict[Member, int]:
        """How many of its rows each member gets in.

        Args:
            waiting: the members, by priority and arrival.
            free: how many rows may enter.
        """
        left = {member: len(member.todo) - member.admitted for member in waiting}
        taken: dict[Member, int] = {}
        while free > 0 and left:
            member = self._next(list(left))
            alone = all(other.ticket.owner == member.ticket.owner for other in left)
            rows = min(free, left[member]) if alone else 1
            self._take(member.ticket.owner)
            taken[member] = taken.get(member, 0) + rows
            left[member] -= rows
            free -= rows
            if not left[member]:
                del left[member]
        return taken

    def _next(self, waiting: Sequence[Member]) -> Member:
        """The member whose row is the next; only those of the greatest priority are asked."""
        urgent = [member for member in waiting if member.ticket.priority == waiting[0].ticket.priority]
        return min(urgent, key=lambda member: (self._turn(member.ticket.owner), member.order))

    def _turn(self, owner: str | None) -> int:
        return max(self._now, self._last.get(owner, -1) + 1)

    def _take(self, owner: str | None) -> None:
        self._now = self._last[owner] = self._turn(owner)
