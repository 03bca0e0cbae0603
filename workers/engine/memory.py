"""A batch that does not fit the device's memory, in parts that do."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from workers.engine.running import Running
from workers.engine.sizes import Sizes

log = logging.getLogger(__name__)


def advance_within(
    running: Running,
    kernel: Kernel,
    rows: Rows,
    steps: Tensor,
    streams: Tensor,
    count: int,
    sizes: Sizes = (),
    limit: int | None = None,
) -> tuple[Rows, int | None]:
    """As ``running.advance``, in parts of at most ``limit`` rows; they are halved whenever memory is short.

    Args:
        running: how steps are run.
        kernel: as for ``running.advance``, and so are the next four.
        rows: see there.
        steps: see there.
        streams: see there.
        count: see there.
        sizes: batch sizes at which the kernel's results agree bit for bit; parts have one of them where they can.
        limit: the most rows that have fitted lately; None: all.

    Returns:
        The rows, and the limit that has held.

    Raises:
        torch.OutOfMemoryError: not even one row fits.
    """
    while True:
        try:
            if limit is None or limit >= len(steps):
                return running.advance(kernel, rows, steps, streams, count), limit
            return _in_parts(running, kernel, rows, steps, streams, count, limit), limit
        except torch.OutOfMemoryError:
            size = min(limit or len(steps), len(steps))
            if size == 1:
                raise
        # Not within the handler: its traceback holds what the failed step had made.
        limit = max((fit for fit in sizes if fit <= size // 2), default=size // 2)
        log.warning("the device has no memory for %d rows at once; going on with %d at a time", size, limit)
        running.release()


def _in_parts(
    running: Running, kernel: Kernel, rows: Rows, steps: Tensor, streams: Tensor, count: int, size: int
) -> Rows:
    """Parts of one size, the last one filled up with copies of its first row."""
    given: list[Rows] = []
    parts: list[Rows] = []
    for start in range(0, len(steps), size):
        end = min(start + size, len(steps))
        places = torch.tensor([*range(start, end), *[start] * (start + size - end)], device=steps.device)
        given.append({name: value[places] for name, value in rows.items()})
        after = running.advance(kernel, given[-1], steps[places], streams[places], count)
        parts.append(after)
    return {name: _joined(name, rows, given, parts) for name in parts[0]}


def _joined(name: str, rows: Rows, given: Sequence[Rows], parts: Sequence[Rows]) -> Tensor:
    """What has become of a name; the tensor that was there if no part has changed it."""
    if all(part[name] is before.get(name) for part, before in zip(parts, given, strict=True)):
        return rows[name]
    return torch.cat([part[name] for part in parts])[: next(iter(rows.values())).shape[0]]
