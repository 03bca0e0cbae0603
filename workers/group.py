"""A group: the rows that share a kernel, packed into one batch."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.convolutions import as_in_company
from models.loop import Kernel, Loop, Rows
from models.noise import Key, Noise
from workers.chains import Part, Snapshot, on_cpu
from workers.exact import Agreement
from workers.member import Member, Slot
from workers.tickets import Preview, Ticket

PROGRESS_EVERY = 10
"""Tickets are told of their progress at least every so many steps; looking at every slot in every step costs time."""


def group_key(loop: Loop) -> tuple[Any, ...]:
    """What two loops must share to be in one batch: the kernel object, and names, shapes, types of the state."""
    return loop.kernel, tuple(sorted((k, tuple(v.shape[1:]), v.dtype) for k, v in loop.rows.items()))


class Group:
    """The members of one group and their packed rows.

    Args:
        kernel: what advances them.
        agreement: batch sizes at which this kernel's results agree bit for bit, and what that takes for a lone row.

    Attributes:
        waited: for how many turns it has waited for company.
        feeders: the kernels of the chains that its members came from.
    """

    def __init__(self, kernel: Kernel, agreement: Agreement) -> None:
        self.kernel, self._agreement, self.waited = kernel, agreement, 0
        self.feeders: set[Kernel] = set()
        self._waiting: list[Member] = []
        self._slots: list[Slot | None] = []  # None: the row at this place of the batch has left
        self._rows: Rows = {}
        self._steps = torch.empty(0, dtype=torch.int64)
        self._age = 0  # steps since the batch was packed
        self._counted = 0  # of these, those that members have been told of
        self._due = 0  # the age at which a row leaves or is shown: until then the slots need no look

    @property
    def empty(self) -> bool:
        return not self._waiting and not any(self._slots)

    @property
    def waiting_rows(self) -> int:
        """How many rows have not been admitted yet."""
        return sum(len(member.todo) - member.admitted for member in self._waiting)

    @property
    def rows(self) -> int:
        """How many rows are here, waiting or packed."""
        return self.waiting_rows + sum(slot is not None for slot in self._slots)

    @property
    def brief(self) -> bool:
        """True if nothing here takes more than one step."""
        return not any(self._slots) and all(member.loop.steps == 1 for member in self._waiting)

    def members(self) -> list[Member]:
        """Every member, waiting or packed, once."""
        return list(dict.fromkeys([*(slot.member for slot in self._slots if slot), *self._waiting]))

    def add(self, member: Member) -> None:
        insort(self._waiting, member, key=lambda m: m.order)

    def remove(self, members: Iterable[Member]) -> None:
        """Take members out, waiting or packed; the other rows stay as they are."""
        gone = set(members)
        self._waiting = [m for m in self._waiting if m not in gone]
        self._slots = [None if slot and slot.member in gone else slot for slot in self._slots]

    def admit(self, max_rows: int) -> int:
        """Fill the batch up to ``max_rows`` with waiting rows; returns how many rows there are now."""
        fresh: list[Slot] = []
        parts: list[Rows] = []
        free = max_rows - sum(slot is not None for slot in self._slots)
        while self._waiting and free > 0:
            member = self._waiting[0]
            start, end = member.admitted, min(len(member.todo), member.admitted + free)
            fresh += [Slot(member, row) for row in member.todo[start:end]]
            parts.append(member.starts(start, end))
            member.admitted, free = end, free - (end - start)
            if end == len(member.todo):
                self._waiting.pop(0)
        if fresh or None in self._slots:
            self._pack(fresh, parts)
        return len(self._slots)

    def _pack(self, fresh: list[Slot], parts: list[Rows]) -> None:
        """Rebuild the batch from the rows that are left and the fresh ones, padded with copies of its first row."""
        kept = [k for k, slot in enumerate(self._slots) if slot]
        held = len(self._steps) if kept else 0  # a one-step kernel may have added names that fresh rows lack
        slots = [*(slot for slot in self._slots if slot), *fresh]
        self._slots = list(slots)
        if not slots:
            self._rows, self._steps = {}, self._steps[:0]
            return
        order = [*kept, *range(held, held + len(fresh))]
        padding = next((size for size in self._agreement.sizes if size >= len(order)), len(order)) - len(order)
        order += order[:1] * padding
        pool = [self._rows, *parts] if held else parts
        device = next(iter(pool[0].values())).device
        index = torch.tensor(order, device=device)
        self._rows = {k: torch.cat([part[k] for part in pool]).index_select(0, index) for k in pool[0]}
        for slot in fresh:
            slot.base -= self._age  # they begin now
        self._rebase()
        self._steps = torch.tensor([slot.base for slot in slots] + [slots[0].base] * padding, device=device)

    def snapshots(self, wanted: Callable[[Ticket[Any]], bool]) -> dict[Ticket[Any], Snapshot]:
        """Where the rows of the wanted tickets are. It costs little: kernels are pure, so no tensor is copied."""
        members = [member for member in self.members() if wanted(member.ticket)]
        if not members:
            return {}
        rows = on_cpu(self._rows)
        places: dict[Member, list[int]] = {member: [] for member in members}
        for place, slot in enumerate(self._slots):
            if slot and slot.member in places:
                places[slot.member].append(place)
        return {member.ticket: member.snapshot(self._part(rows, places[member])) for member in members}

    def _part(self, rows: Rows, places: Sequence[int]) -> Part:
        slots = [slot for k in places if (slot := self._slots[k])]
        return Part(rows, places, [slot.row for slot in slots], [slot.base + self._age for slot in slots])

    def step(self) -> tuple[list[Member], list[tuple[Member, Exception]]]:
        """Advance every row by one step. Call :meth:`admit` first.

        Returns:
            The members whose rows have all finished, and those that failed with their errors.
        """
        failed: list[tuple[Member, Exception]] = []
        while any(self._slots):
            try:
                rows = self._apply([slot for slot in self._slots if slot], self._rows, self._steps)
            except Exception as error:
                faulty = self._faulty(error)
                failed += faulty
                self.remove(member for member, _ in faulty)
                self._pack([], [])
                continue
            return self._after(rows), failed
        return [], failed

    def _apply(self, slots: Sequence[Slot], rows: Rows, steps: Tensor) -> Rows:
        def keys() -> list[Key]:
            own = [Key(s.member.loop.seeds[s.row], s.member.number, s.base + self._age) for s in slots]
            return own + own[:1] * (len(steps) - len(own))

        with as_in_company(self._agreement.corrected):
            after = self.kernel(rows, steps, Noise(keys, steps.device))
        if after.keys() != rows.keys() and any(s.base + self._age + 1 < s.member.loop.steps for s in slots):
            raise ValueError("a kernel that runs for several steps must give back the state with the names it got")
        return after

    def _faulty(self, error: Exception) -> list[tuple[Member, Exception]]:
        """Which members make the kernel raise when they are alone; all of them if the fault is the batch's own."""
        faulty: list[tuple[Member, Exception]] = []
        members = list(dict.fromkeys(slot.member for slot in self._slots if slot))
        for member in members:
            places = [k for k, slot in enumerate(self._slots) if slot and slot.member is member]
            alone = {k: v[places] for k, v in self._rows.items()}
            try:
                self._apply(
                    [slot for slot in self._slots if slot and slot.member is member], alone, self._steps[places]
                )
            except Exception as own:
                faulty.append((member, own))
        return faulty or [(member, error) for member in members]

    def _after(self, rows: Rows) -> list[Member]:
        """Count the step, and when it is due show previews and let finished rows leave; gives complete members."""
        self._rows, self._steps = rows, self._steps + 1
        self._age += 1
        if self._age < self._due and self._age - self._counted < PROGRESS_EVERY:
            return []
        previews: dict[Member, list[int]] = {}
        finished: dict[Member, list[int]] = {}
        for place, slot in enumerate(self._slots):
            if slot is None:
                continue
            member, step = slot.member, slot.base + self._age
            member.advanced += self._age - self._counted
            if step >= member.loop.steps:
                finished.setdefault(member, []).append(place)
            elif member.ticket.preview_every and member.loop.preview and member.shown_at(step):
                previews.setdefault(member, []).append(place)
            member.ticket.step = member.advanced // member.size
        self._counted = self._age
        for member, places in finished.items():
            member.collect([slot.row for k in places if (slot := self._slots[k])], _taken(rows, places))
            for place in places:
                self._slots[place] = None
        for member, places in previews.items():
            self._show(member, places)
        if None not in self._slots and self._age >= self._due:  # shown, but nobody left: find the next time
            self._rebase()
        return [member for member in finished if member.complete]

    def _rebase(self) -> None:
        """Count from now on, as after a packing, with the rows where they are."""
        slots = [slot for slot in self._slots if slot]
        for slot in slots:
            slot.base += self._age
        self._age = self._counted = 0
        self._due = min((slot.due() for slot in slots), default=0)

    def _show(self, member: Member, places: list[int]) -> None:
        """Give the ticket pictures of its rows; the caller has seen that its loop has a preview."""
        slots = [slot for k in places if (slot := self._slots[k])]
        if member.loop.preview is None:
            return
        images = member.loop.preview({k: v[places] for k, v in self._rows.items()}).detach().cpu()
        step = member.before + slots[0].base + self._age
        member.ticket.show(Preview(step, tuple(slot.row for slot in slots), images))


def _taken(rows: Rows, places: Sequence[int]) -> Rows:
    """Copies of the rows at these places."""
    first, last = places[0], places[-1]
    if last - first + 1 == len(places):
        return {k: v[first : last + 1].clone() for k, v in rows.items()}
    return {k: v[list(places)] for k, v in rows.items()}
