"""Devices: how they round, whether they work, and when what was put on them is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def set_arithmetic(*, tf32: bool = False) -> None:
    """Choose what rounding on a GPU depends on, for the whole process; torch's defaults are not what is wanted.

    Convolutions use algorithms that add in a fixed order, chosen without trials: else a job that is repeated has other
    bits. A CPU is not affected.

    Args:
        tf32: whether convolutions and products of matrices may round their inputs to 10 bits of mantissa, which some
            GPUs do twice as fast. Torch's own default has it on for convolutions.
    """
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside the block nothing is rounded to TF32. It holds for the process: for all threads, while it lasts."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    if not any(before):
        yield
        return
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def rounds_inputs(device: torch.device) -> bool:
    """Whether it computes with TF32."""
    return device.type == "cuda" and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)


def arithmetic() -> str:
    """What was chosen, in words for reports."""
    fixed = torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    tf32 = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    return f"{'deterministic' if fixed else 'not deterministic'}, TF32 {'on' if tf32 else 'off'}"


def settle(device: torch.device) -> None:
    """Wait until what this thread has put on a device is there for the lanes of others."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def probed(device: torch.device) -> str | None:
    """Why a device can't add two numbers, or None. An error that sticks to a CUDA process shows here, too."""
    try:
        (torch.ones(1, device=device) + 1).item()
    except torch.OutOfMemoryError:
        return None
    except (RuntimeError, AssertionError) as error:  # the latter from a torch that was built without it
        return str(error).splitlines()[0]
    return None
