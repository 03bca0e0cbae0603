"""A job in work, between the thread that runs it and the heart that tells of it."""

from __future__ import annotations

from collections.abc import Mapping

from models.core.output import Output
from service.contract.records import Progress
from workers.chains.keeper import Keeper
from workers.engine.tickets import Ticket


class JobWork:
    """A job in work, as the heart sees it.

    Args:
        keeper: of its saved chain.
    """

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.ticket: Ticket[Output] | None = None
        self.lost = False
        self._cancelled = False
        self._said: Progress | None = None

    def follow(self, ticket: Ticket[Output]) -> None:
        self.ticket = ticket
        if self._cancelled:
            ticket.cancel()

    def progress(self) -> Progress | None:
        ticket = self.ticket
        if ticket is None:
            return None
        progress = Progress(stage=ticket.stage, step=min(ticket.step, ticket.steps), steps=ticket.steps)
        if progress == self._said:
            return None
        self._said = progress
        return progress

    def metrics(self) -> Mapping[str, float] | None:
        return None

    def cancel(self) -> None:
        self._cancelled = True
        if self.ticket:
            self.ticket.cancel()

    def lose(self) -> None:
        self.lost = True
        self.keeper.close()
        self.cancel()
