"""Tasks driven from loop to loop: what a task yields gets its place in the schedule, what has ended is sent to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, final

import torch

from models.core.loop import Rows
from workers.chains.chain import Chain, ChainError
from workers.engine.group import Group
from workers.engine.lanes import Lane
from workers.engine.member import Member
from workers.engine.tickets import CancelledError, StoppedError, Ticket

log = logging.getLogger(__name__)


@final
class Driver:
    """Drives tasks, on the engine's threads and under its lock.

    Args:
        device: where rows live.
        lane: whose marks results wait for.
        place: puts the rows of a loop where they belong.
        examine: is shown every error of a task; it raises if the error is the device's.
    """

    def __init__(
        self,
        device: torch.device,
        lane: Lane,
        place: Callable[[Member], None],
        examine: Callable[[Exception], None],
    ) -> None:
        self._device, self._lane, self._place, self._examine = device, lane, place, examine

    def begin(self, ticket: Ticket[Any]) -> None:
        """Start a task, or go on with one that was saved."""
        if ticket.resume is None:
            self.advance(ticket, None)
        elif ticket.cancelled:
            ticket.end(CancelledError())
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
            self._examine(error)
            own = isinstance(error, ChainError)
            ticket.end(error if own else ChainError(f"its task does not take it: {error!r}"))
            return
        here = replace(chain, rows=self._to_device(chain.rows))
        self._place(Member(ticket, replace(loop, rows=here.rows), ticket.begin(loop), here))

    def _to_device(self, rows: Rows) -> Rows:
        return {k: v.to(self._device) for k, v in rows.items()}

    def advance(self, ticket: Ticket[Any], rows: Rows | None) -> None:
        """Send a task the rows of its last loop, and put its next loop into the group where it belongs."""
        while True:
            if ticket.cancelled:
                ticket.end(CancelledError())
                return
            try:
                loop = ticket.task.send(rows)  # type: ignore[arg-type]  # None starts a generator
            except StopIteration as stop:
                ticket.finish(stop.value, self._lane.mark())
                return
            except Exception as error:
                self._examine(error)
                ticket.fail(error)
                return
            number = ticket.begin(loop)
            ticket.show_start(loop)
            if loop.steps > 0 and loop.seeds:
                self._place(Member(ticket, loop, number))
                return
            rows = loop.rows
            ticket.results.append(loop.kept(rows))

    def end(self, groups: Iterable[Group], waiting: Iterable[Ticket[Any]]) -> None:
        """Every task ends here, and can go on elsewhere from where it is."""
        for group in groups:
            try:
                chains = {t: snapshot.chain() for t, snapshot in group.snapshots(lambda ticket: True).items()}
            except Exception as error:  # the device is lost: they go on from what was saved
                log.warning("where tasks are can't be told: %s", error)
                chains = {}
            for ticket in {member.ticket: None for member in group.members()}:
                ticket.end(CancelledError() if ticket.cancelled else StoppedError(chains.get(ticket)))
        for ticket in waiting:
            ticket.end(CancelledError() if ticket.cancelled else StoppedError(ticket.resume))
