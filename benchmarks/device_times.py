"""Time of steps and jobs on a device, for ``benchmarks.device``."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, cast

import torch

from benchmarks.device_models import DeviceNoise, Figures, NoNoise, Shipped, noisy, quiet, tf32
from models.core.loop import Kernel, Loop, Rows
from models.core.noise import Noise, streams
from workers.engine.engine import Engine

SIZES = (1, 8, 32, 128, 256)
_SHORT, _LONG = 50, 250
"""Steps of two loops in the engine; a step is the difference of their times: what a job costs besides falls out."""


def steps(shipped: Shipped, seconds: float = 0.1) -> Figures:
    """Microseconds of a step: an eager bare loop, and a graph that is replayed and nothing else."""
    cuda = shipped.device.type == "cuda"
    for n in SIZES if cuda else SIZES[:3]:
        kernel, start = shipped.chain(n)
        calm, loud = quiet(start), noisy(start, 0.01)
        none, own = cast("Noise", NoNoise()), cast("Noise", DeviceNoise(n, shipped.device))
        ways: dict[str, tuple[Rows, Noise | None, bool]] = {
            "eager": (calm, none, False),
            "eager, keyed noise": (loud, None, False),
            "graph": (calm, none, True),
            "graph, keyed noise": (loud, None, True),
            "graph, noise of the device": (loud, own, True),
        }
        found: dict[str, Any] = {}
        for name, (rows, noise, graphed) in ways.items():
            if cuda or not graphed:
                step = _Step(kernel, rows, noise, n, shipped.device)
                found[name] = timed(step.graph() if graphed else step.take, shipped.device, seconds)
        if cuda:
            with tf32(True):
                found["graph, TF32"] = timed(
                    _Step(kernel, calm, none, n, shipped.device).graph(), shipped.device, seconds
                )
        yield f"{n} rows", found


class _Step:
    """A step that changes its state in place.

    Args:
        kernel: of the step.
        rows: the state.
        noise: what the kernel draws from; None: the rows' own.
        n: rows.
        device: where they live.
    """

    def __init__(self, kernel: Kernel, rows: Rows, noise: Noise | None, n: int, device: torch.device) -> None:
        self._kernel, self._noise = kernel, noise
        self._state = {name: value.clone() for name, value in rows.items()}
        self._at, self._keys = torch.zeros(n, dtype=torch.int64, device=device), streams(range(n), 0, device)

    def take(self) -> None:
        noise = self._noise or Noise.at(self._keys, self._at)
        self._state = self._kernel(self._state, self._at, noise)

    def _in_place(self) -> None:
        noise = self._noise or Noise.at(self._keys, self._at)
        for name, value in self._kernel(dict(self._state), self._at, noise).items():
            if value is not self._state[name]:
                self._state[name].copy_(value)

    def graph(self) -> Callable[[], None]:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._in_place()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._in_place()
        return graph.replay


def timed(advance: Callable[[], None], device: torch.device, seconds: float) -> float:
    """Microseconds of one call: the median of three stretches."""
    for _ in range(3):
        advance()
    wait(device)
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds / 4 or calls < 2:
        advance()
        calls += 1
    wait(device)
    calls = max(2, round(calls * seconds / 3 / (time.perf_counter() - began)))
    stretches = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(calls):
            advance()
        wait(device)
        stretches.append((time.perf_counter() - began) / calls * 1e6)
    return round(median(stretches), 2)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def launches(shipped: Shipped, rows: int = 8, repeats: int = 5) -> Figures:
    """Kernels, copies and host waits of an eager step."""
    if shipped.device.type != "cuda":
        return
    kernel, start = shipped.chain(rows)
    for name, state in (("quiet", quiet(start)), ("keyed noise", noisy(start, 0.01))):
        step = _Step(kernel, state, None, rows, shipped.device)
        step.take()
        torch.cuda.synchronize()
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            for _ in range(repeats):
                step.take()
            torch.cuda.synchronize()
        on_device = [e for e in profile.events() if e.device_type.name == "CUDA"]
        copies = [e for e in on_device if "memcpy" in e.name.lower() or "memset" in e.name.lower()]
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(repeats):
                step.take()
        torch.cuda.set_sync_debug_mode("default")
        found = {
            "kernels": (len(on_device) - len(copies)) / repeats,
            "copies": len(copies) / repeats,
            "device busy us": round(sum(e.device_time for e in on_device) / repeats, 1),
            "host waits": sum("synchron" in str(w.message) for w in caught) / repeats,
        }
        yield name, found


@contextmanager
def _engine(shipped: Shipped, rows: int, fast: bool = True) -> Iterator[Engine]:
    engine = Engine(rows, shipped.device, fast=fast)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


def engine(shipped: Shipped) -> Figures:
    """Microseconds of a step in the engine of the inference worker, loops of one row each: the chain of ``steps``."""
    cuda = shipped.device.type == "cuda"
    for n in SIZES if cuda else SIZES[:2]:
        kernel, start = shipped.chain(n)
        found: dict[str, float] = {}
        for name, rows in (("quiet", quiet(start)), ("keyed noise", noisy(start, 0.01))):
            with _engine(shipped, n) as made:
                _together(made, kernel, rows, n, _SHORT)
                seconds = [[_together(made, kernel, rows, n, length) for length in (_SHORT, _LONG)] for _ in range(3)]
            took = median(long - short for short, long in seconds)
            found[name] = round(took / (_LONG - _SHORT) * 1e6, 1)
            found[f"{name}, loop besides"] = round((median(s for s, _ in seconds) - took / (_LONG / _SHORT - 1)) * 1e6)
        yield f"{n} rows", found


def _together(engine: Engine, kernel: Kernel, rows: Rows, n: int, length: int) -> float:
    """Seconds of n loops of one row."""
    # A chain that goes on for so long may leave the range of images: nothing here looks at the pictures.
    still: Rows = {**rows, **{name: rows[name] * 1e-6 for name in ("eta", "lr") if name in rows}}
    parts = [{name: value[k : k + 1].clone() for name, value in still.items()} for k in range(n)]
    wait(engine.device)

    def task(k: int) -> Any:
        return (yield Loop(kernel, parts[k], length, [k]))

    began = time.perf_counter()
    for ticket in [engine.submit(task(k)) for k in range(n)]:
        ticket.result()
    return time.perf_counter() - began


def latency(shipped: Shipped) -> Figures:
    """Milliseconds of jobs of one image with the card's defaults, all handed over at once: the median and the last."""
    for n in (1, 32, 128) if shipped.device.type == "cuda" else (1, 8):
        with _engine(shipped, 256) as made:
            passes = [_jobs(shipped, made, n) for _ in range(4)]  # the first two warm up and record
        best = min(passes[2:], key=lambda ends: ends[-1])
        yield f"{n} jobs", {"median": round(median(best) * 1e3, 2), "last": round(best[-1] * 1e3, 2)}


def _jobs(shipped: Shipped, engine: Engine, n: int) -> list[float]:
    tasks = [shipped.model.start(shipped.task, shipped.job(1, k)) for k in range(n)]
    began = time.perf_counter()
    tickets = [engine.submit(task) for task in tasks]
    ends = []
    for ticket in tickets:
        images = ticket.result().images
        assert images is not None
        images.cpu()
        ends.append(time.perf_counter() - began)
    return sorted(ends)
