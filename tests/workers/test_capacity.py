"""What a worker takes on, and what it says of a device that it can't use."""

from __future__ import annotations

import pytest
import torch

from models.core.devices import arithmetic, full_precision, rounds_inputs, set_arithmetic
from service.settings import Settings
from workers.device import Capacity, DeviceError, suited, usable_device


def test_a_gpu_takes_on_more_than_a_cpu_and_settings_decide() -> None:
    assert suited(Settings(), None) == Capacity(rows=32, places=128, model_bytes=2 * 2**30)
    assert suited(Settings(), 80 * 2**30) == Capacity(rows=256, places=512, model_bytes=20 * 2**30)
    assert suited(Settings(max_rows=16), 80 * 2**30).places == 32  # a full batch of one model, and as many others
    assert suited(Settings(max_rows=4096), 80 * 2**30).places == 1024
    chosen = Settings(max_rows=8, worker_threads=4, model_memory_bytes=2**20)
    assert suited(chosen, 80 * 2**30) == suited(chosen, None) == Capacity(rows=8, places=4, model_bytes=2**20)


def test_a_device_that_can_not_be_used_says_what_is_needed() -> None:
    with pytest.raises(
        DeviceError, match=r"can't be used: .*; (this build of torch has no CUDA|torch .* is built for)"
    ):
        usable_device("cuda:99")
    with pytest.raises(DeviceError, match="the device 'gpu' can't be used: torch does not know it"):
        usable_device("gpu")
    assert usable_device("cpu") == torch.device("cpu")


def test_arithmetic_is_set_and_not_inherited() -> None:
    """And what must not be rounded is not, whatever is set."""
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    try:
        set_arithmetic(tf32=True)
        assert arithmetic() == "deterministic, TF32 on"
        assert rounds_inputs(torch.device("cuda", 0))
        with full_precision():
            assert not any(flag.allow_tf32 for flag in flags)
        assert all(flag.allow_tf32 for flag in flags)
    finally:
        set_arithmetic()
    assert arithmetic() == "deterministic, TF32 off"
    assert not torch.backends.cudnn.benchmark
