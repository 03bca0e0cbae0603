"""The constants of the engine's schedule. ``python -m benchmarks.policy`` shows what each is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Policy:
    """When a group waits for company, and how small its batches may be.

    A turn is one step of another group.

    Args:
        gather_turns: for how many turns at most a one-step loop waits for others while chains advance. A network call
            for one row costs a good part of one for thirty-two.
        least_rows: a group is not divided into smaller batches, for a call costs as much as some rows.
        long_step: groups whose steps take so many seconds are divided down to single rows: the call is nothing then.
    """

    gather_turns: int = 6
    least_rows: int = 2
    long_step: float = 0.005
