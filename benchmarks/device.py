"""Shipped models on an accelerator, in minutes: ``python -m benchmarks.device --out out/device.json``.

It measures, each section within its own time limit:

- ``accuracy``: every kernel against itself in float64 on the CPU, with TF32 off and on, as the norm of the difference
  over the norm of the whole and over that of what the kernel changed;
- ``jobs``: a job on the device against the same job on the CPU (8-bit images), and against itself, bit for bit;
- ``company``: whether a row has the same bits alone as in batches of 2 to 128 rows;
- ``steps``: a refinement step at 1 to 256 rows, as (a) an eager bare loop and (b) a replayed CUDA graph of the same
  step, without noise, with the rows' keyed noise and with noise of the device's own generator;
- ``launches``: kernels launched and host synchronisations a step;
- ``engine``: (c) the engine of the inference worker on jobs of one row each.

It needs torch, numpy, safetensors and pydantic alone. On a CPU (``--device cpu``) what asks for CUDA is left out.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoints import WEIGHTS, load_model, read_card
from models.core.jobs import JOBS, Job
from models.core.loop import Kernel, Rows, Task, run
from models.core.model import LoadedModel
from models.core.noise import Key, Noise
from models.core.output import Output
from models.data.holes import holes
from models.data.images import to_uint8
from models.samplers import langevin, shortrun
from models.systems.registry import load_from

SIZES = (1, 8, 32, 128, 256)
_COMPANY = (2, 8, 32, 128)
_DECIDING: tuple[ModuleType, ...] = (langevin, shortrun)


# Noise


class NoNoise:
    """For kernels that are told to be quiet."""

    def normal(self, *shape: int) -> Tensor:
        del shape
        raise AssertionError("a quiet step draws no noise")


class DeviceNoise:
    """Numbers of the device's own generator: what noise costs at least there. They are not the rows' own."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self._rows, self._device = rows, device

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self._rows, *shape, device=self._device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self._rows, *shape, device=self._device)


class DoubleNoise:
    """The rows' own numbers in double precision."""

    def __init__(self, keys: list[Key]) -> None:
        self._noise = Noise(keys)

    def normal(self, *shape: int) -> Tensor:
        return self._noise.normal(*shape).double()

    def uniform(self, *shape: int) -> Tensor:
        return self._noise.uniform(*shape).double()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def in_double() -> Iterator[None]:
    """Inside the block all that networks compute is in double precision, also what they ask to be in single."""
    single = Tensor.float
    Tensor.float = Tensor.double  # type: ignore[method-assign]
    try:
        with default_dtype(torch.float64):
            yield
    finally:
        Tensor.float = single  # type: ignore[method-assign]


@contextmanager
def decided(noisy: bool) -> Iterator[None]:
    """Inside the block the kernels do not ask the device whether noise is wanted: a graph can't be asked."""
    for module in _DECIDING:
        vars(module)["bool"] = lambda _: noisy
    try:
        yield
    finally:
        for module in _DECIDING:
            vars(module).pop("bool", None)


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


# Models, jobs and chains


@dataclass
class Shipped:
    """A checkpoint on the device, and how to load it again."""

    name: str
    folder: Path
    card: Mapping[str, Any]
    model: LoadedModel
    device: torch.device

    def reference(self) -> LoadedModel:
        """In float64 on the CPU."""
        tensors = {k: v.double() for k, v in load_file(self.folder / WEIGHTS).items()}
        with in_double():
            return load_from(self.card, tensors, torch.device("cpu"))

    @property
    def task(self) -> str:
        return next(task for task in ("generate", "translate", "inpaint") if task in self.card["tasks"])

    def job(self, n: int, seed: int, steps: int | None = None, **changes: Any) -> Job:
        """A request of the model's main task with the card's defaults."""
        card, shape = self.card, self.card.get("condition") or self.card["image"]
        channels, size = shape["channels"], shape["height"]
        ramp = torch.linspace(-3, 3, size)
        image = ((ramp[:, None] ** 2 + ramp[None] ** 2).sqrt() % 1 < 0.2).float() * -2 + 1
        defaults = card["tasks"][self.task]["defaults"]
        labels = {card["classes"][0]: 1.0} if card.get("classes") else None
        kind = JOBS[self.task]
        given = {
            **defaults,
            "steps": defaults["steps"] if steps is None else steps,
            "n": n,
            "seed": seed,
            "label": labels,
            "image": image.expand(channels, size, size).clone(),
            "mask": holes(1, size, 3)[0],
            **changes,
        }
        return kind(**{field.name: given[field.name] for field in fields(kind) if field.name in given})

    def start(self, n: int, seed: int = 1) -> Task[Output]:
        return self.model.start(self.task, self.job(n, seed))

    def chain(self, rows: int) -> tuple[Kernel, Rows]:
        """The kernel of the refinement (of the finest size, if there are several) and the rows that enter it."""
        task, found, number = self.start(rows), None, 0
        loop = next(task)
        try:
            while True:
                if loop.preview:
                    found = loop.kernel, loop.rows
                state, steps = loop.rows, min(loop.steps, 1)
                for step in range(steps):
                    noise = Noise([Key(seed, number, step) for seed in loop.seeds], self.device)
                    state = loop.kernel(state, torch.full((rows,), step, device=self.device), noise)
                number += 1
                loop = task.send(state)
        except StopIteration:
            pass
        assert found is not None  # the main tasks all have a chain
        return found


def _varied(value: Tensor, rows: int) -> Tensor:
    """Copies of one row that differ, where they are not plain numbers of the row."""
    row = value[0].flatten()
    if not value.is_floating_point() or row.numel() == 1:
        return value.expand(rows, *value.shape[1:]).clone()
    moved = [row.roll(37 * k) * (1 - 0.5 * k / rows) for k in range(rows)]
    return torch.stack(moved).reshape(rows, *value.shape[1:])


def _noisy(rows: Rows, scale: float) -> Rows:
    """The same state with noise in its step, whichever chain it is of."""
    names = {"tau", "s0", "s1"} & rows.keys()
    return {**rows, **{name: torch.full_like(rows[name], scale) for name in names}}


# Sections; each yields its figures one by one and can be stopped between them


Figures = Iterator[tuple[str, Any]]


def accuracy(shipped: Shipped, rows: int = 8) -> Figures:
    exact = shipped.reference()
    for index, ((kernel, example), (ours, _)) in enumerate(
        zip(exact.kernels.examples(), shipped.model.kernels.examples(), strict=True)
    ):
        state = {k: _doubled(_varied(v, rows)) for k, v in example.items()}
        keys = [Key(seed, 0, 0) for seed in range(1, rows + 1)]
        with in_double():
            at = torch.zeros(rows, dtype=torch.int64)
            truth = kernel(state, at, cast("Noise", DoubleNoise(keys)))
        moved = {k: _single(v).to(shipped.device) for k, v in state.items()}
        found = {}
        for name, on in (("fp32", False), ("tf32", True)):
            with tf32(on):
                given = ours(moved, at.to(shipped.device), Noise(keys, shipped.device))
            found[name] = _errors(given, truth, state)
        yield (
            f"kernel {index} ({', '.join(sorted(k for k in truth if k not in state or truth[k] is not state[k]))})",
            found,
        )


def _doubled(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def _errors(given: Rows, truth: Rows, state: Rows) -> dict[str, float]:
    found = {}
    for name, right in truth.items():
        if not right.is_floating_point() or (name in state and right is state[name]):
            continue
        got = given[name].detach().cpu().double()
        error = (got - right).norm()
        found[name] = float(error / right.norm().clamp(min=1e-30))
        if name in state and right.shape == state[name].shape:
            found[f"{name} moved"] = float(error / (right - state[name]).norm().clamp(min=1e-30))
    return found


def jobs(shipped: Shipped, repeats: int = 3) -> Figures:
    on_cpu = load_model(shipped.folder, torch.device("cpu"))
    for steps in (None, 20):
        job = shipped.job(4, 7, steps)
        wanted = run(on_cpu.start(shipped.task, job)).images
        for name, on in (("fp32", False), ("tf32", True)):
            with tf32(on):
                made = [
                    run(shipped.model.start(shipped.task, job), device=shipped.device).images for _ in range(repeats)
                ]
            assert wanted is not None
            assert made[0] is not None
            levels = (to_uint8(made[0].cpu()).int() - to_uint8(wanted).int()).abs()
            yield (
                f"{steps or 'default'} steps, {name}",
                {
                    "most of 255": int(levels.max()),
                    "share of values that differ": float((levels > 0).float().mean()),
                    "repeated with the same bits": all(
                        torch.equal(made[0], again) for again in made[1:] if again is not None
                    ),
                },
            )


def company(shipped: Shipped) -> Figures:
    for deterministic in (False, True):
        torch.backends.cudnn.deterministic = deterministic
        agree: dict[str, list[int]] = {}
        for index, (kernel, example) in enumerate(shipped.model.kernels.examples()):
            rows = {k: _varied(v, max(_COMPANY)) for k, v in example.items()}
            alone = _advance(kernel, rows, 1, shipped.device)
            agree[f"kernel {index}"] = [
                n for n in _COMPANY
                if all(torch.equal(v[:1], alone[k]) for k, v in _advance(kernel, rows, n, shipped.device).items())
            ]  # fmt: skip
        torch.backends.cudnn.deterministic = False
        yield "deterministic" if deterministic else "as torch has it", agree


def _advance(kernel: Kernel, rows: Rows, n: int, device: torch.device) -> Rows:
    part = {k: v[:n].contiguous() for k, v in rows.items()}
    return kernel(
        part, torch.zeros(n, dtype=torch.int64, device=device), Noise([Key(k, 0, 0) for k in range(n)], device)
    )


def steps(shipped: Shipped, seconds: float = 0.12) -> Figures:
    """Microseconds of a step."""
    cuda = shipped.device.type == "cuda"
    for n in SIZES if cuda else SIZES[:3]:
        kernel, start = shipped.chain(n)
        loud, quiet = _noisy(start, 0.01), _noisy(start, 0.0)
        at = torch.zeros(n, dtype=torch.int64, device=shipped.device)
        keyed = Noise([Key(k, 0, 0) for k in range(n)], shipped.device)
        own = cast("Noise", DeviceNoise(n, shipped.device))
        none = cast("Noise", NoNoise())
        found = {
            "eager": _timed(_loop(kernel, quiet, at, none), shipped.device, seconds),
            "eager, keyed noise": _timed(_loop(kernel, loud, at, keyed), shipped.device, seconds),
            "eager, device noise": _timed(_loop(kernel, loud, at, own), shipped.device, seconds),
        }
        if cuda:
            with decided(False):
                found["eager, nothing asked"] = _timed(_loop(kernel, quiet, at, none), shipped.device, seconds)
            found["graph"] = _timed(_graph(kernel, quiet, at, none, False), shipped.device, seconds)
            found["graph, device noise"] = _timed(_graph(kernel, loud, at, own, True), shipped.device, seconds)
            with tf32(True):
                found["graph, tf32"] = _timed(_graph(kernel, quiet, at, none, False), shipped.device, seconds)
        yield f"{n} rows", found


def _loop(kernel: Kernel, rows: Rows, at: Tensor, noise: Noise) -> Callable[[], None]:
    state = dict(rows)

    def advance() -> None:
        state.update(kernel(state, at, noise))

    return advance


def _graph(kernel: Kernel, rows: Rows, at: Tensor, noise: Noise, noisy: bool) -> Callable[[], None]:
    """The step as a CUDA graph that changes its state in place."""
    state = {k: v.clone() for k, v in rows.items()}

    def advance() -> None:
        for name, value in kernel(dict(state), at, noise).items():
            if value is not state[name]:
                state[name].copy_(value)

    with decided(noisy):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                advance()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            advance()
    return graph.replay


def _timed(advance: Callable[[], None], device: torch.device, seconds: float) -> float:
    """Microseconds of one call: the median of three stretches."""
    for _ in range(3):
        advance()
    _wait(device)
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds / 4 or calls < 2:
        advance()
        calls += 1
    _wait(device)
    calls = max(2, round(calls * seconds / 3 / (time.perf_counter() - began)))
    stretches = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(calls):
            advance()
        _wait(device)
        stretches.append((time.perf_counter() - began) / calls * 1e6)
    return round(median(stretches), 2)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def launches(shipped: Shipped, rows: int = 8, repeats: int = 5) -> Figures:
    if shipped.device.type != "cuda":
        return
    kernel, start = shipped.chain(rows)
    at = torch.zeros(rows, dtype=torch.int64, device=shipped.device)
    for name, scale in (("quiet", 0.0), ("keyed noise", 0.01)):
        noise = Noise([Key(k, 0, 0) for k in range(rows)], shipped.device)
        advance = _loop(kernel, _noisy(start, scale), at, noise)
        advance()
        torch.cuda.synchronize()
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            for _ in range(repeats):
                advance()
            torch.cuda.synchronize()
        on_device = [e for e in profile.events() if e.device_type.name == "CUDA"]
        copies = [e for e in on_device if "memcpy" in e.name.lower() or "memset" in e.name.lower()]
        busy = sum(e.device_time for e in on_device) / repeats
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(repeats):
                advance()
        torch.cuda.set_sync_debug_mode("default")
        yield (
            name,
            {
                "kernels": (len(on_device) - len(copies)) / repeats,
                "copies": len(copies) / repeats,
                "device busy us": round(busy, 1),
                "synchronisations": sum("synchron" in str(w.message) for w in caught) / repeats,
            },
        )


def engine(shipped: Shipped, length: int = 150) -> Figures:
    """Jobs of one row and many steps, all at once: microseconds of a step of the batch."""
    from workers.engine.engine import Engine

    for n in (1, 8, 32, 128) if shipped.device.type == "cuda" else (1, 8):
        made = Engine(max_rows=n, device=shipped.device)
        made.start()
        try:
            seconds = []
            for _ in range(2):  # the first warms up
                work = [shipped.model.start(shipped.task, shipped.job(1, k, length, step_size=0.01)) for k in range(n)]
                began = time.perf_counter()
                for ticket in [made.submit(task) for task in work]:
                    ticket.result()
                seconds.append(time.perf_counter() - began)
            yield f"{n} jobs", round(seconds[-1] / length * 1e6, 1)
        finally:
            made.stop()


@dataclass
class Section:
    """A part of the report with its time limit for all models together."""

    name: str
    measure: Callable[[Shipped], Figures]
    seconds: float
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, models: list[Shipped]) -> None:
        began = time.monotonic()
        for shipped in models:
            figures = self.found.setdefault(shipped.name, {})
            if time.monotonic() - began > self.seconds:
                figures["left out"] = f"{self.seconds:g} s were over"
                continue
            try:
                for name, figure in self.measure(shipped):
                    figures[name] = figure
                    if time.monotonic() - began > self.seconds:
                        figures["cut short"] = f"after {self.seconds:g} s"
                        break
            except Exception as error:
                figures["failed"] = f"{type(error).__name__}: {error}"
                traceback.print_exc()
        print(f"{self.name}: {time.monotonic() - began:.1f} s", flush=True)


def sections(budget: float) -> list[Section]:
    """All of them, with shares of so many seconds."""
    shares = {accuracy: 0.12, jobs: 0.12, company: 0.12, steps: 0.36, launches: 0.1, engine: 0.18}
    return [Section(measure.__name__, measure, share * budget) for measure, share in shares.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("checkpoints"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=180.0, help="for all sections together")
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    device = torch.device(a.device)
    torch.backends.cudnn.allow_tf32 = False
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    report: dict[str, Any] = {"device": name, "torch": torch.__version__, "loading": {}}
    print(name, torch.__version__, flush=True)
    models = []
    for folder in sorted(a.models.glob("*/1")):
        began = time.monotonic()
        try:
            model = load_model(folder, device)
        except Exception as error:
            report["loading"][folder.parent.name] = f"failed: {error}"
            traceback.print_exc()
            continue
        models.append(Shipped(folder.parent.name, folder, read_card(folder), model, device))
        report["loading"][folder.parent.name] = round(time.monotonic() - began, 2)
    for section in sections(a.seconds):
        section.run(models)
        report[section.name] = section.found
        if a.out:
            a.out.parent.mkdir(parents=True, exist_ok=True)
            a.out.write_text(json.dumps(report, indent=1) + "\n")
    for title, found in report.items():
        if not isinstance(found, dict):
            continue
        for model_name, figures in found.items():
            for what, figure in figures.items() if isinstance(figures, dict) else [("", figures)]:
                print(f"{title} | {model_name} | {what} | {json.dumps(figure)}")


if __name__ == "__main__":
    main()
