"""Which batch sizes give the same bits.

Sums of floats depend on how a library splits the work, and that depends on the batch size at a few sizes. So when a
model is loaded its kernels are tried at many sizes, and batches are padded to those that agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.loop import Kernel, Rows
from models.noise import Key, Noise

_SHIFTS = (0, 2)
"""Rows are tried at two places of the batch, beside other neighbours."""


def candidate_sizes(max_rows: int) -> list[int]:
    """Sizes worth trying: all small ones, then in steps of about a sixteenth, so that padding costs little."""
    sizes, size = [], 1
    while size < max_rows:
        sizes.append(size)
        size += max(1, size // 16)
    return [*sizes, max_rows]


def agreeing_sizes(kernel: Kernel, example: Rows, max_rows: int) -> tuple[int, ...]:
    """The batch sizes up to ``max_rows`` at which every row gets the same bits as in a full batch.

    Args:
        kernel: one step.
        example: one row of state that it accepts.
        max_rows: the full batch.

    Returns:
        Ascending sizes ending in ``max_rows``; empty if not even two full batches with other neighbours agree.
    """
    total = max_rows + max(_SHIFTS)
    rows = {k: _varied(v, total) for k, v in example.items()}

    def advance(start: int, size: int) -> Rows:
        keys = [Key(1 + row, 0, 0) for row in range(start, start + size)]
        part = {k: v[start : start + size].contiguous() for k, v in rows.items()}
        device = next(iter(part.values())).device
        return kernel(part, torch.zeros(size, dtype=torch.int64, device=device), Noise(keys, device))

    full = {shift: advance(shift, max_rows) for shift in _SHIFTS}
    overlap = max_rows - _SHIFTS[1]
    if any(not torch.equal(v[_SHIFTS[1] :], full[_SHIFTS[1]][k][:overlap]) for k, v in full[0].items()):
        return ()
    return tuple(
        size
        for size in candidate_sizes(max_rows)
        if all(torch.equal(v, full[s][k][:size]) for s in _SHIFTS for k, v in advance(s, size).items())
    )


def _varied(value: torch.Tensor, rows: int) -> torch.Tensor:
    """Copies of one row that differ a little from each other where they are not plain numbers of the row."""
    copies = value.expand(rows, *value.shape[1:]).clone()
    if value.is_floating_point() and value[0].numel() > 1:
        factor = torch.linspace(1.0, 0.5, rows, device=value.device)
        copies = copies * factor.reshape(-1, *[1] * (value.dim() - 1))
    return copies


def probe(kernels: Sequence[tuple[Kernel, Rows]], max_rows: int) -> dict[Kernel, tuple[int, ...]]:
    """:func:`agreeing_sizes` of every kernel of a model."""
    return {kernel: agreeing_sizes(kernel, example, max_rows) for kernel, example in kernels}
