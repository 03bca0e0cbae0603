"""A task's loop in a group, and its rows in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from models.core.loop import Condition, Loop, Rows, RowsError, conditions, diverged, without
from models.core.noise import mix
from workers.chains.chain import Chain, Part, Snapshot, on_cpu
from workers.engine.tickets import Preview, Ticket

_arrivals = count()


class Member:
    """One loop of one task in a group: which of its rows wait, and the finished ones.

    Args:
        ticket: the task's.
        loop: what it yielded.
        number: of the loop in its task.
        chain: where its rows are, if they have begun elsewhere; its tensors are where the loop's are.
    """

    def __init__(self, ticket: Ticket[Any], loop: Loop, number: int, chain: Chain | None = None) -> None:
        self.ticket, self.loop, self.number, self.before = ticket, loop, number, ticket.before
        self.order = (-ticket.priority, next(_arrivals))
        self.rows = chain.rows if chain else loop.rows
        self.steps = chain.steps if chain else [0] * self.size
        self._advanced = sum(self.steps)
        self.todo = [row for row, step in enumerate(self.steps) if step < loop.steps]
        """The rows that are to be advanced, in the order of their admission."""
        self.admitted = 0  # of these
        self._pictures: dict[int, dict[int, tuple[Tensor, float | None]]] = {}  # step -> row -> what is to be shown
        self._shown: dict[int, set[int]] = {}  # step -> rows that were shown
        self._finished = [row for row, step in enumerate(self.steps) if step >= loop.steps]
        self._ends: dict[int, Condition] = {}
        if self._finished:  # elsewhere
            ends = conditions({k: v[self._finished] for k, v in self.rows.items()})
            self._ends.update(zip(self._finished, ends, strict=True))
        self._moved: Rows = {}  # what its kernel changes, of the rows that have finished; else they are as at the start

    def shown_at(self, step: int) -> bool:
        """Whether rows that have done so many steps of the loop are due to be shown."""
        return (self.before + step) % self.ticket.preview_every == 0

    def show(self, step: int, numbers: Sequence[int], state: Rows) -> None:
        """Give the ticket pictures of its rows, once all that have begun have come to this step.

        The caller has seen that its loop has a preview.

        Args:
            step: how many steps of the loop they have done.
            numbers: which rows have come to it now.
            state: these rows.
        """
        pictures, shown = self._pictures.setdefault(step, {}), self._shown.setdefault(step, set())
        pictures.update(zip(numbers, zip(*self.loop.shown(state), strict=True), strict=True))
        begun = {row for row in self.todo[: self.admitted] if self.steps[row] < step}
        if begun <= pictures.keys() | shown:
            rows = sorted(self._pictures.pop(step))
            shown.update(rows)
            images, energies = zip(*(pictures[row] for row in rows), strict=True)
            self.ticket.show(Preview(self.before + step, tuple(rows), torch.stack(images), energies))

    def advance(self, steps: int) -> None:
        """Tell the ticket that one of its rows has done so many steps more."""
        self._advanced += steps
        self.ticket.step = self._advanced // self.size

    @property
    def size(self) -> int:
        return len(self.loop.seeds)

    @property
    def complete(self) -> bool:
        """True if all rows have finished."""
        return len(self._finished) == self.size

    def starts(self, begin: int, end: int) -> Rows:
        """The states from which the rows ``todo[begin:end]`` start."""
        if end - begin == self.size:
            return self.rows
        if len(self.todo) == self.size:
            return {k: v[begin:end] for k, v in self.rows.items()}
        return {k: v[self.todo[begin:end]] for k, v in self.rows.items()}

    def collect(self, numbers: Sequence[int], moved: Rows, ends: Sequence[Condition]) -> None:
        """Keep what the kernel has made of some of its rows, which have finished, by their numbers."""
        self._ends.update(zip(numbers, ends, strict=True))
        if list(numbers) == list(range(self.size)):  # all at once, as most jobs end
            self._moved = moved
        else:
            for name, value in moved.items():
                if name not in self._moved:
                    start = self.rows.get(name)
                    fresh = value.new_empty((self.size, *value.shape[1:])) if start is None else start.clone()
                    self._moved[name] = fresh
                self._moved[name][list(numbers)] = value
        self._finished += numbers

    def snapshot(self, packed: Sequence[Part]) -> Snapshot:
        """Where its rows are now, with those that are in batches."""
        self.ticket.results = [on_cpu(rows) for rows in self.ticket.results]
        if self.loop.steps == 1:  # its kernel may have added names to some rows only: the one step is taken again
            rows = list(range(self.size))
            return Snapshot(self.ticket.results, self.loop, [Part(on_cpu(self.loop.rows), rows, rows, [0] * self.size)])
        waiting, done = self.todo[self.admitted :], list(self._finished)
        parts = [
            *packed,
            Part(on_cpu(self.rows), waiting, waiting, [self.steps[row] for row in waiting]),
            Part(on_cpu({**self.rows, **self._moved}), done, done, [self.loop.steps] * len(done)),
        ]
        return Snapshot(list(self.ticket.results), self.loop, [part for part in parts if part.numbers])

    def result(self) -> Rows:
        """The finished rows; those that have diverged are NaN, and the task goes on with the others.

        Raises:
            RowsError: all have diverged.
        """
        lost = diverged(self.loop, [self._ends[row] for row in range(self.size)])
        if lost and len(lost) == self.size:
            raise RowsError(next(iter(lost.values())))
        return {**self.rows, **(without(self._moved, lost) if lost else self._moved)}


class Slot:
    """One row in the batch, with the key of its noise. It had done ``base`` steps when the batch was last packed."""

    __slots__ = ("base", "member", "row", "stream")

    def __init__(self, member: Member, row: int) -> None:
        self.member, self.row, self.base = member, row, member.steps[row]
        self.stream = mix(member.loop.seeds[row], member.number)

    def due(self) -> int:
        """How many steps from the last packing until it leaves or is to be shown."""
        loop, every = self.member.loop, self.member.ticket.preview_every
        left = loop.steps - self.base
        done = self.member.before + self.base
        return min(left, every - done % every) if every and loop.preview else left
