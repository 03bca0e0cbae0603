"""Which batch sizes are batch-invariant: a row gets the same bits at each of them, whatever its neighbours are.

Sums of floats depend on how a library splits the work, and that depends on the batch size at a few sizes. So when a
model is loaded its kernels are tried once, at four sizes to the octave, and batches are padded to those that agree.
Powers of two alone would do, but padding 24 rows to 32 costs a third of the throughput.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch

from models.core.loop import Kernel, Rows
from models.core.noise import Key, Noise

Sizes: TypeAlias = tuple[int, ...]
"""Batch sizes that agree, ascending, the last one the full batch; empty: not even full batches agree."""

_FEW, _MANY = 2, 32
"""Batches of a size that are tried, each with another last row. Sums in another order differ in few of their last bits:
a picture shows that in one row, a latent vector in one of many, and those cost little."""

_SMALL = 8
"""Above this size a picture is tried in one batch."""

_MOVE = 37
"""Each row holds the example's numbers so many places further on: rows that only differ in scale agree too easily."""


def tried_sizes(max_rows: int, device: torch.device | str = "cpu", *, pictures: bool = True) -> list[int]:
    """The batch sizes that are tried: four to the octave below the full batch, and the full batch.

    Above 8 rows the next size is at most a fourth larger; up to 8 every size is tried. On a GPU they are the powers of
    two: its steps are recorded for each size, and hardly take longer for twice the rows. So they are for rows without
    pictures, whose steps cost little: a library sums the last rows of other sizes in another order, which few latent
    vectors show.
    """
    octaves = [1 << k for k in range((max_rows - 1).bit_length())]
    quarters = range(4 if pictures and torch.device(device).type == "cpu" else 1)
    sizes = {octave + octave * quarter // 4 for octave in octaves for quarter in quarters}
    return sorted({size for size in sizes if size < max_rows} | {max_rows})


def probe(
    kernels: Sequence[tuple[Kernel, Rows]], max_rows: int, device: torch.device | str = "cpu"
) -> dict[Kernel, Sizes]:
    """The batch sizes at which each kernel gives every row the same bits as in a full batch.

    Where the device has no memory for a full batch, half of it is the full one for that kernel, and so on.

    Args:
        kernels: each with one row of state that it accepts.
        max_rows: the full batch.
        device: where the rows live.

    Raises:
        torch.OutOfMemoryError: there is no memory for one row.
    """
    return {kernel: _fitting(kernel, example, max_rows, device) for kernel, example in kernels}


def _fitting(kernel: Kernel, example: Rows, max_rows: int, device: torch.device | str) -> Sizes:
    while True:
        try:
            return _agreeing(kernel, example, max_rows, device)
        except torch.OutOfMemoryError:
            if max_rows == 1:
                raise
        max_rows //= 2


def _agreeing(kernel: Kernel, example: Rows, max_rows: int, device: torch.device | str) -> Sizes:
    rows = {k: _varied(v, max_rows + _MANY) for k, v in example.items()}

    def advance(start: int, size: int) -> Rows:
        """What the kernel makes of so many rows, without what it hands back as it was."""
        keys = [Key(1 + row, 0, 0) for row in range(start, start + size)]
        part = {k: v[start : start + size].clone() for k, v in rows.items()}
        device = next(iter(part.values())).device
        after = kernel(part, torch.zeros(size, dtype=torch.int64, device=device), Noise(keys, device))
        return {k: v for k, v in after.items() if v is not part.get(k)}

    full = advance(0, max_rows)
    pictures = any(v.dim() > 3 for v in [*rows.values(), *full.values()])
    tries = _FEW if pictures else _MANY
    lengths = [min(max_rows, tries - start) for start in range(0, tries, max_rows)] + [max_rows]
    batches = [advance(sum(lengths[:k]), max_rows) for k in range(len(lengths))]
    expected = {k: torch.cat([v[k][:n] for v, n in zip(batches, lengths, strict=True)]) for k in full}

    def agrees(size: int) -> bool:
        return all(
            torch.equal(v, expected[k][place : place + size])
            for place in (range(tries) if size <= _SMALL or not pictures else [tries - 1])
            for k, v in advance(place, size).items()
        )

    sizes = tuple(size for size in tried_sizes(max_rows, device, pictures=pictures) if agrees(size))
    return sizes if max_rows in sizes else ()


def _varied(value: torch.Tensor, rows: int) -> torch.Tensor:
    """Copies of one row that differ, moved on and scaled, where they are not plain numbers of the row."""
    row = value[0].flatten()
    if not value.is_floating_point() or row.numel() == 1:
        return value.expand(rows, *value.shape[1:]).clone()
    scales = torch.linspace(1.0, 0.5, rows).tolist()
    moved = torch.stack([row.roll(_MOVE * k) * scale for k, scale in enumerate(scales)])
    return moved.reshape(rows, *value.shape[1:])
