"""Where a worker computes, and how much it takes on there."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import final

import torch

from models.core.devices import probed, set_arithmetic
from service.settings import Settings

log = logging.getLogger(__name__)

_TRAINING_SHARE = 0.8
"""Part of the process's memory on a GPU that a training may take."""


def choose_device(setting: str) -> str:
    """``auto`` is CUDA where there is one, else the CPU."""
    if setting == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return setting


def training_memory(settings: Settings, device: torch.device) -> int:
    """The most memory that a training may take on a device, in bytes."""
    if settings.training_memory_bytes is None and device.type == "cuda":
        return int(_TRAINING_SHARE * _memory(settings, device))
    return settings.training_memory


def _memory(settings: Settings, device: torch.device) -> int:
    """What the process may take of a GPU's memory, in bytes."""
    return int(settings.gpu_share * torch.cuda.get_device_properties(device).total_memory)


class DeviceError(Exception):
    """There is no such device here; the message says what to do."""


_DRIVER = Path("/proc/driver/nvidia/version")
_DRIVERS = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}
"""The oldest driver for Linux that runs programs built for a version of CUDA (NVIDIA, CUDA compatibility)."""


def usable_device(setting: str) -> torch.device:
    """The device of :func:`choose_device`, tried out.

    Raises:
        DeviceError: it can't be used.
    """
    name = choose_device(setting)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"the device {name!r} can't be used: torch does not know it; choose another") from error
    if (reason := probed(device)) is not None:
        raise DeviceError(f"the device {name!r} can't be used: {reason.rstrip('.')}; {_advice(name)}")
    return device


def _advice(name: str) -> str:
    """What to do about a device that can't be used."""
    version = torch.version.cuda
    if not name.startswith("cuda"):
        return "choose another, such as cpu"
    if version is None:
        return "this build of torch has no CUDA: install the one from the package index, or choose cpu"
    driver = _DRIVERS.get(version.partition(".")[0])
    least = f" needs an NVIDIA driver {driver} or newer" if driver else " needs a driver for it"
    return f"torch {torch.__version__} is built for CUDA {version}, which{least} (nvidia-smi shows yours)"


@final
@dataclass(frozen=True)
class Capacity:
    """How much an inference worker takes on.

    Args:
        rows: the most rows of a batch.
        places: how many jobs it holds at a time.
        model_bytes: for loaded models.
    """

    rows: int
    places: int
    model_bytes: int


_ON_CPU = Capacity(rows=32, places=128, model_bytes=2 * 2**30)
_GPU_ROWS, _GPU_MODELS = 256, 0.25
"""A step of the shipped models takes hardly longer with 32 rows than with one, and from 128 on it grows with them: more
rows gain nothing. Where a GPU has no memory for so many, loading a model finds it out (:mod:`workers.engine.room`)."""
_MOST_PLACES = 1024


def capacity(settings: Settings) -> Capacity:
    """What the settings say, else what suits the device."""
    name = choose_device(settings.device)
    return suited(settings, _memory(settings, torch.device(name)) if name.startswith("cuda") else None)


def suited(settings: Settings, gpu_bytes: int | None) -> Capacity:
    """The same for so many bytes that the process may take of a GPU; None: it computes on a CPU."""
    rows = settings.max_rows or (_ON_CPU.rows if gpu_bytes is None else _GPU_ROWS)
    # A model has half of the places: on a GPU enough for a full batch of jobs of one image.
    places = _ON_CPU.places if gpu_bytes is None else min(_MOST_PLACES, 2 * rows)
    model_bytes = _ON_CPU.model_bytes if gpu_bytes is None else int(_GPU_MODELS * gpu_bytes)
    return Capacity(rows, settings.worker_threads or places, settings.model_memory_bytes or model_bytes)


def prepare_torch(settings: Settings, batches: int = 1) -> torch.device:
    """Settings of torch for a process that computes; returns the device.

    With one batch at a time one core is left to all else: torch's threads wait for each other after every operation, so
    one of them that has no core of its own holds up all.

    Args:
        settings: of the process.
        batches: how many are advanced at the same time, each on threads of its own.
    """
    torch.set_flush_denormal(True)
    set_arithmetic(tf32=settings.tf32)
    share = ceil((len(os.sched_getaffinity(0)) - 1) / batches)
    torch.set_num_threads(settings.torch_threads or max(1, share))
    device = torch.device(choose_device(settings.device))
    if device.type == "cuda" and settings.gpu_share < 1:
        torch.cuda.set_per_process_memory_fraction(settings.gpu_share, device.index or 0)
    if settings.device == "auto" and device.type == "cpu" and _DRIVER.exists():
        log.warning(
            "this machine has an NVIDIA GPU that torch can't use, so models run on the CPU: %s", _advice("cuda")
        )
    return device


def engine_threads(settings: Settings) -> int:
    """How many batches an inference worker advances at the same time."""
    if settings.engine_threads is not None:
        return settings.engine_threads
    on_cpu = choose_device(settings.device) == "cpu"
    return min(2, len(os.sched_getaffinity(0))) if on_cpu else 1
