"""Time of steps and jobs on a device, for ``benchmarks.device``."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.device_models import Figures, Shipped, noisy, quiet, tf32
from models.core.loop import Kernel, Loop, Rows
from models.core.noise import Noise, streams
from workers.engine.engine import Engine

SIZES = (1, 8, 32, 128, 256)
_LENGTHS = (20, 120)
"""Steps of two loops in the engine; a step is the difference of their times: what a job costs besides falls out."""


def steps(shipped: Shipped, seconds: float = 0.05, lengths: tuple[int, int] = _LENGTHS) -> Figures:
    """Microseconds of a step: (a) an eager bare loop, (b) a graph that is replayed and nothing else, and (c) the engine
    of the inference worker on loops of one row each; without noise, and with the rows' own.
    """
    cuda = shipped.device.type == "cuda"
    for n in SIZES if cuda else SIZES[:3]:
        kernel, start = shipped.chain(n)
        found: dict[str, Any] = {}
        for name, rows in (("quiet", quiet(start)), ("noisy", noisy(start, 0.01))):
            # A chain that goes on for so long may leave the range of images: nothing here looks at the pictures.
            rows = {**rows, **{key: rows[key] * 1e-6 for key in ("eta", "lr") if key in rows}}
            eager = timed(_Step(kernel, rows, n, shipped.device).take, shipped.device, seconds)
            replayed = timed(_Step(kernel, rows, n, shipped.device).graph(), shipped.device, seconds) if cuda else 0
            with _engine(shipped, n) as engine:
                served, besides = _served(engine, kernel, rows, n, lengths)
            found[name] = {"eager": eager, "graph": replayed, "engine": served, "a loop besides": besides}
        if cuda:
            with tf32(True):
                calm = _Step(kernel, quiet(start), n, shipped.device)
                found["graph, TF32"] = timed(calm.graph(), shipped.device, seconds)
        yield f"{n} rows", found


def _served(engine: Engine, kernel: Kernel, rows: Rows, n: int, lengths: tuple[int, int]) -> tuple[float, float]:
    """Microseconds of a step in the engine, and of what a loop of all rows takes besides its steps."""
    first, second = lengths
    _together(engine, kernel, rows, n, first)
    _together(engine, kernel, rows, n, first)  # what the first pass warms up is recorded in the second
    short, long = (min(_together(engine, kernel, rows, n, length) for _ in range(2)) for length in lengths)
    step = (long - short) / (second - first)
    return round(step * 1e6, 1), round((short - step * first) * 1e6)


class _Step:
    """A step that changes its state in place.

    Args:
        kernel: of the step.
        rows: the state.
        n: rows.
        device: where they live.
    """

    def __init__(self, kernel: Kernel, rows: Rows, n: int, device: torch.device) -> None:
        self._kernel = kernel
        self._state = {name: value.clone() for name, value in rows.items()}
        self._at, self._keys = torch.zeros(n, dtype=torch.int64, device=device), streams(range(n), 0, device)

    def take(self) -> None:
        self._state = self._kernel(self._state, self._at, Noise.at(self._keys, self._at))

    def _in_place(self) -> None:
        for name, value in self._kernel(dict(self._state), self._at, Noise.at(self._keys, self._at)).items():
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
        step = _Step(kernel, state, rows, shipped.device)
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


def _together(engine: Engine, kernel: Kernel, rows: Rows, n: int, length: int) -> float:
    """Seconds of n loops of one row that begin together."""
    parts = [{name: value[k : k + 1].clone() for name, value in rows.items()} for k in range(n)]
    wait(engine.device)
    gate = threading.Event()

    def hold(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        gate.wait()
        return dict(rows)

    def task(kernel: Kernel, rows: Rows, length: int, k: int) -> Any:
        return (yield Loop(kernel, rows, length, [k]))

    held = engine.submit(task(hold, {"x": torch.zeros(1, 1, device=engine.device)}, 1, 0))
    tickets = [engine.submit(task(kernel, part, length, k)) for k, part in enumerate(parts)]
    began = time.perf_counter()
    gate.set()
    for ticket in [held, *tickets]:
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
