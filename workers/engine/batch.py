"""A batch: packed rows of a group that one call of its kernel advances together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.core.loop import SOUND, Kernel, Rows, conditions
from models.core.noise import as_tensor
from workers.chains.chain import Part, on_cpu
from workers.engine.member import Member, Slot
from workers.engine.memory import advance_within
from workers.engine.running import Running
from workers.engine.sizes import Sizes

PROGRESS_EVERY = 10
"""Tickets are told of their progress at least every so many steps; looking at every slot in every step costs time."""


class Advanced(NamedTuple):
    """What came of some steps: the next state, or the members that failed, and the state is as it was."""

    rows: Rows
    steps: int
    failed: Sequence[tuple[Member, Exception]] = ()


class Batch:
    """Rows of the members of one group, packed.

    One thread at a time advances it, and packs it anew only between two steps. While it is being advanced, others may
    only look at it and take members out.

    Args:
        kernel: what advances the rows.
        running: how steps are run.
        sizes: batch sizes at which this kernel's results agree bit for bit.
        moved: the names of the state that this kernel has been seen to change; it is added to.

    Attributes:
        busy: whether a thread advances it now.
        size: how many rows it holds, without padding.
    """

    def __init__(self, kernel: Kernel, running: Running, sizes: Sizes, moved: set[str]) -> None:
        self.busy, self.size = False, 0
        self._kernel, self._running, self._sizes, self._moved = kernel, running, sizes, moved
        self._fits = sizes[-1] if sizes else None  # the most rows that fit the device's memory; None: not known
        self._slots: list[Slot | None] = []  # None: the row at this place of the batch has left
        self._advancing: list[Slot] = []  # the slots as they were when it became busy
        self._rows: Rows = {}
        self._steps = torch.empty(0, dtype=torch.int64)
        self._streams = torch.empty(0, dtype=torch.int64)
        self._age = 0  # steps since the batch was packed
        self._counted = 0  # of these, those that members have been told of
        self._due = 0  # the age at which a row leaves or is shown: until then the slots need no look

    @property
    def brief(self) -> bool:
        """Whether none of its rows takes more than one step."""
        return all(slot is None or slot.member.loop.steps == 1 for slot in self._slots)

    def members(self) -> list[Member]:
        """Whose rows it holds, each once."""
        return list(dict.fromkeys(slot.member for slot in self._slots if slot))

    def remove(self, members: Collection[Member]) -> None:
        """Take members out; the other rows stay as they are."""
        self._leave(k for k, slot in enumerate(self._slots) if slot and slot.member in members)

    def pack(self, fresh: Sequence[Slot] = (), parts: Sequence[Rows] = ()) -> None:
        """Rebuild it from the rows that are left and fresh ones, padded with copies of its first row.

        Args:
            fresh: whose rows join.
            parts: their states, in the same order, in as many pieces as is convenient.
        """
        kept = [k for k, slot in enumerate(self._slots) if slot]
        if not fresh and len(kept) == len(self._slots):
            return
        self._count()
        held = len(self._steps) if kept else 0  # a one-step kernel may have added names that fresh rows lack
        slots = [*(slot for slot in self._slots if slot), *fresh]
        if not slots:
            self._slots, self.size = [], 0
            self._rows, self._steps, self._streams = {}, self._steps[:0], self._streams[:0]
            return
        order = [*kept, *range(held, held + len(fresh))]
        padding = next((size for size in self._sizes if size >= len(order)), len(order)) - len(order)
        order += order[:1] * padding
        pool = [self._rows, *parts] if held else parts
        device = next(iter(pool[0].values())).device
        joined = {k: torch.cat([part[k] for part in pool]) for k in pool[0]}
        if order != list(range(held + len(fresh))):
            index = torch.tensor(order, device=device)
            joined = {k: v.index_select(0, index) for k, v in joined.items()}
        self._slots, self.size, self._rows = list(slots), len(slots), joined  # not before there was memory for them
        for slot in fresh:
            slot.base -= self._age  # they begin now
        self._rebase()
        padded = [*slots, *slots[:1] * padding]
        self._steps = torch.tensor([slot.base for slot in padded], device=device)
        self._streams = as_tensor([slot.stream for slot in padded], device)

    def split(self, size: int) -> Batch:
        """Keep so many rows; a new batch gets the others."""
        self._count()
        self._rebase()
        other = Batch(self._kernel, self._running, self._sizes, self._moved)
        places = [k for k, slot in enumerate(self._slots) if slot][size:]
        leaving = [slot for k in places if (slot := self._slots[k])]
        other.pack(leaving, [{k: v[places] for k, v in self._rows.items()}])
        self._leave(places)
        self.pack()
        return other

    def absorb(self, others: Sequence[Batch]) -> None:
        """Take all rows of other batches, which are empty then."""
        for other in others:
            other._count()
            other._rebase()
            places = [k for k, slot in enumerate(other._slots) if slot]
            joining = [slot for slot in other._slots if slot]
            self.pack(joining, [{k: v[places] for k, v in other._rows.items()}])
            other._leave(places)

    def begin(self) -> None:
        """Mark it as busy: this thread is going to :meth:`advance` it."""
        self.busy, self._advancing = True, [slot for slot in self._slots if slot]

    def advance(self) -> Advanced:
        """Take as many steps as are worth it, but none beyond that at which a row leaves or is shown.

        :meth:`settle` takes the result.
        """
        count = max(1, min(self._running.most, self._due - self._age))
        try:
            rows = self._apply(self._advancing, self._rows, self._steps, self._streams, count)
            return Advanced(rows, count)
        except Exception as error:
            return Advanced(self._rows, 0, self._faulty(error, count))

    def _apply(self, slots: Sequence[Slot], rows: Rows, steps: Tensor, streams: Tensor, count: int) -> Rows:
        after, self._fits = advance_within(
            self._running, self._kernel, rows, steps, streams, count, self._sizes, self._fits
        )
        if after.keys() != rows.keys() and any(s.base + self._age + count < s.member.loop.steps for s in slots):
            raise ValueError("a kernel that runs for several steps must give back the state with the names it got")
        return after

    def _faulty(self, error: Exception, count: int) -> list[tuple[Member, Exception]]:
        """Which members make the kernel raise when they are alone; all of them if the fault is the batch's own."""
        faulty: list[tuple[Member, Exception]] = []
        members = list(dict.fromkeys(slot.member for slot in self._advancing))
        for member in members:
            places = [k for k, slot in enumerate(self._advancing) if slot.member is member]
            own = [self._advancing[k] for k in places]
            try:
                rows = {k: v[places] for k, v in self._rows.items()}
                self._apply(own, rows, self._steps[places], self._streams[places], count)
            except Exception as alone:
                faulty.append((member, alone))
        return faulty or [(member, error) for member in members]

    def settle(self, rows: Rows, count: int) -> list[Member]:
        """Count steps, and when it is due show previews and let finished rows leave.

        Args:
            rows: the state after them.
            count: of the steps.

        Returns:
            The members of which no row is left to be advanced.
        """
        self._moved.update(name for name, value in rows.items() if value is not self._rows.get(name))
        self._rows, self._steps = rows, self._steps + count
        self._age += count
        if self._age < self._due and self._age - self._counted < PROGRESS_EVERY:
            return []
        self._count()
        previews: dict[tuple[Member, int], list[int]] = {}
        finished: dict[Member, list[int]] = {}
        for place, slot in enumerate(self._slots):
            if slot is None:
                continue
            member, step = slot.member, slot.base + self._age
            if step >= member.loop.steps:
                finished.setdefault(member, []).append(place)
            elif member.ticket.preview_every and member.loop.preview and member.shown_at(step):
                previews.setdefault((member, step), []).append(place)
        for (member, step), places in previews.items():
            member.show(step, self._numbers(places), {k: v[places] for k, v in rows.items()})
        if finished:
            self._collect(finished)
        if None not in self._slots and self._age >= self._due:  # shown, but nobody left: find the next time
            self._rebase()
        return [member for member in finished if member.complete]

    def _collect(self, finished: Mapping[Member, Sequence[int]]) -> None:
        """Give members the rows at these places, which leave; the device is asked once how all of them are."""
        moved = _taken(
            {k: v for k, v in self._rows.items() if k in self._moved},
            [place for places in finished.values() for place in places],
        )
        ends, start = conditions(moved) or [SOUND] * sum(map(len, finished.values())), 0
        for member, places in finished.items():
            end = start + len(places)
            member.collect(self._numbers(places), {k: v[start:end] for k, v in moved.items()}, ends[start:end])
            self._leave(places)
            start = end

    def parts(self, members: Collection[Member]) -> dict[Member, Part]:
        """Where the rows of members are. It costs little: kernels are pure, so no tensor is copied."""
        places: dict[Member, list[int]] = {}
        for place, slot in enumerate(self._slots):
            if slot and slot.member in members:
                places.setdefault(slot.member, []).append(place)
        rows = on_cpu(self._rows) if places else {}
        return {member: Part(rows, own, self._numbers(own), self._done(own)) for member, own in places.items()}

    def _numbers(self, places: Sequence[int]) -> list[int]:
        """Which rows of their loop are at these places."""
        return [slot.row for k in places if (slot := self._slots[k])]

    def _done(self, places: Sequence[int]) -> list[int]:
        """How many steps of their loop the rows at these places have done."""
        return [slot.base + self._age for k in places if (slot := self._slots[k])]

    def _leave(self, places: Iterable[int]) -> None:
        for place in list(places):
            self._slots[place] = None
            self.size -= 1

    def _count(self) -> None:
        """Tell tickets of the steps since they were told last."""
        for slot in self._slots:
            if slot:
                slot.member.advance(self._age - self._counted)
        self._counted = self._age

    def _rebase(self) -> None:
        """Count from now on, as after a packing, with the rows where they are."""
        slots = [slot for slot in self._slots if slot]
        for slot in slots:
            slot.base += self._age
        self._age = self._counted = 0
        self._due = min((slot.due() for slot in slots), default=0)


def _taken(rows: Rows, places: Sequence[int]) -> Rows:
    """Copies of the rows at these places."""
    first, end = places[0], places[0] + len(places)
    if list(places) == list(range(first, end)):
        return {k: v[first:end].clone() for k, v in rows.items()}
    return {k: v[list(places)] for k, v in rows.items()}
