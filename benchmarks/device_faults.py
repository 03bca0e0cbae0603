"""What goes wrong on a device, provoked: for ``benchmarks.device``."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import torch

from benchmarks.device_models import Figures
from models.core.loop import Kernel, Loop, Rows
from models.core.noise import Noise
from workers.engine.engine import DeviceLostError, Engine
from workers.engine.tickets import StoppedError

_LIMIT = 8 * 2**30
"""Bytes that the process may take while memory is made short: others may use the card, too."""
_ROW = _LIMIT // 16


def _zeros(rows: int, device: torch.device) -> Rows:
    """They are there when the engine's stream reads them, which is not this thread's."""
    made = torch.zeros(rows, 4, device=device)
    torch.cuda.synchronize(device)
    return {"x": made}


def _task(kernel: Kernel, rows: Rows, steps: int) -> Any:
    return (yield Loop(kernel, rows, steps, range(len(rows["x"]))))


def _asking(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """Can't be recorded: it asks the device for a number."""
    return {"x": rows["x"] + 1} if bool((rows["x"] >= 0).all()) else rows


def _wide(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """Takes a sixteenth of the limit a row."""
    temporary = torch.ones(len(t), _ROW // 4, device=t.device)
    return {"x": rows["x"] + temporary[:, :4]}


def _plain(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    return {"x": rows["x"] + 1}


def _beyond(rows: Rows, t: torch.Tensor, noise: Noise) -> Rows:
    """Reads beyond the end of a table, which a CUDA process does not survive."""
    return {"x": rows["x"] + rows["x"][:, t + 1000].sum()}


def faults(device: torch.device) -> Figures:
    """Whether the engine survives what it must survive, and ends where it can't go on."""
    if device.type != "cuda":
        return
    engine = Engine(64, device)
    engine.start()
    try:
        after = engine.submit(_task(_asking, _zeros(2, device), 40)).result()
        yield "a kernel that asks the host: 40 steps", bool((after["x"] == 40).all())
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(_LIMIT / total, device)
        after = engine.submit(_task(_wide, _zeros(33, device), 25)).result()
        yield "33 rows of which less than 16 fit: 25 steps", bool((after["x"] == 25).all())
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        after = engine.submit(_task(_plain, _zeros(2, device), 40)).result()
        yield "afterwards: 40 steps", bool((after["x"] == 40).all())
    finally:
        engine.stop()
    command = [sys.executable, "-m", "benchmarks.device_faults", str(device)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    yield "an error that sticks", done.stdout.strip().splitlines() or done.stderr.strip().splitlines()[-3:]


def _stick(device: torch.device) -> None:
    """In a process of its own."""
    told: list[Exception] = []
    engine = Engine(8, device, on_failure=told.append)
    engine.start()
    tickets = [engine.submit(_task(kernel, _zeros(1, device), 500)) for kernel in (_plain, _beyond)]
    for ticket in tickets:
        try:
            ticket.result()
            print("a job has ended")
        except StoppedError as stopped:
            print(f"a job is stopped, its chain is {'kept' if stopped.chain else 'lost'}")
        except Exception as error:
            print(f"a job has failed: {type(error).__name__}: {str(error).splitlines()[0]}")
    print("the engine has ended", [type(error).__name__ for error in told], isinstance(told[0], DeviceLostError))


if __name__ == "__main__":
    _stick(torch.device(sys.argv[1]))
