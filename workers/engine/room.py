"""How many rows of a kernel a device has memory for, measured when its model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final

import torch

from models.core.loop import Kernel, Rows
from models.core.noise import as_tensor
from workers.engine.running import taken

_MORE = 8
_SHARE = 0.5
"""Of the free memory: recorded graphs hold the state of their rows beside it, and there are other kernels."""


class Meter(Protocol):
    """What a device tells of its memory."""

    def free(self) -> int:
        """Bytes that this process may still take."""

    def peak(self, work: Callable[[], object]) -> int:
        """The most bytes that work has taken at a time, beyond those that were taken before it."""


@final
class CudaMeter:
    """A GPU's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def free(self) -> int:
        free, total = torch.cuda.mem_get_info(self._device)
        held = torch.cuda.memory_allocated(self._device)
        unused = torch.cuda.memory_reserved(self._device) - held
        allowed = torch.cuda.get_per_process_memory_fraction(self._device) * total
        return int(min(free + unused, allowed - held))

    def peak(self, work: Callable[[], object]) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        work()
        return torch.cuda.max_memory_allocated(self._device) - before


def meter_of(device: torch.device) -> Meter | None:
    """That of a device; None: it tells nothing, as a CPU, whose memory is not what bounds its batches."""
    return CudaMeter(device) if device.type == "cuda" else None


def rows_within(kernel: Kernel, example: Rows, most: int, meter: Meter) -> int:
    """How many rows a step of a kernel may have, at most ``most``, from one with a row and one with eight.

    Args:
        kernel: what is measured.
        example: one row of state that it accepts.
        most: more are not asked for.
        meter: of the device where the row is.

    Raises:
        torch.OutOfMemoryError: there is no memory for one row.
    """
    one = _peak(kernel, example, 1, meter)
    try:
        more = _peak(kernel, example, _MORE, meter)
    except torch.OutOfMemoryError:
        return 1
    row = max(1.0, (more - one) / (_MORE - 1))
    return max(1, min(most, int((_SHARE * meter.free() - (one - row)) / row)))


def _peak(kernel: Kernel, example: Rows, n: int, meter: Meter) -> int:
    """Of the second or third step: the first one sets up what libraries keep. The lesser, for what the engine takes for
    other models meanwhile counts, too.
    """
    device = next(iter(example.values())).device
    keys = as_tensor(range(n), device)

    def step() -> Rows:
        # The state is made anew for it, and so it is counted.
        rows = {name: value.expand(n, *value.shape[1:]).clone() for name, value in example.items()}
        return taken(kernel, rows, torch.zeros_like(keys), keys)

    step()
    return min(meter.peak(step) for _ in range(2))
