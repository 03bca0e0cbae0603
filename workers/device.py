"""Where a worker computes, and with how many threads."""

from __future__ import annotations

import os
from math import ceil

import torch

from service.settings import Settings

_GPU_SHARE = 0.8
"""Part of a GPU's memory that a training may take."""


def choose_device(setting: str) -> str:
    """``auto`` is CUDA where there is one, else the CPU."""
    if setting == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return setting


def training_memory(settings: Settings, device: torch.device) -> int:
    """The most memory that a training may take on a device, in bytes."""
    if settings.training_memory_bytes is None and device.type == "cuda":
        return int(_GPU_SHARE * torch.cuda.get_device_properties(device).total_memory)
    return settings.training_memory


class DeviceError(Exception):
    """There is no such device here; the message says what to do."""


def usable_device(setting: str) -> torch.device:
    """The device of :func:`choose_device`, tried out.

    Raises:
        DeviceError: it can't be used.
    """
    name = choose_device(setting)
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch that was built without it
        reason = str(error).splitlines()[0]
        raise DeviceError(f"the device {name!r} can't be used: {reason}; choose another, such as cpu") from error
    return device


def prepare_torch(settings: Settings, batches: int = 1) -> torch.device:
    """Settings of torch for a process that computes; returns the device.

    With one batch at a time one core is left to all else: torch's threads wait for each other after every operation, so
    one of them that has no core of its own holds up all.

    Args:
        settings: of the process.
        batches: how many are advanced at the same time, each on threads of its own.
    """
    torch.set_flush_denormal(True)
    share = ceil((len(os.sched_getaffinity(0)) - 1) / batches)
    torch.set_num_threads(settings.torch_threads or max(1, share))
    return torch.device(choose_device(settings.device))


def engine_threads(settings: Settings) -> int:
    """How many batches an inference worker advances at the same time."""
    if settings.engine_threads is not None:
        return settings.engine_threads
    on_cpu = choose_device(settings.device) == "cpu"
    return min(2, len(os.sched_getaffinity(0))) if on_cpu else 1
