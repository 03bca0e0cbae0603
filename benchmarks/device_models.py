"""Shipped models on a device, their jobs and chains, for ``benchmarks.device``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoints import WEIGHTS
from models.core.jobs import JOBS, Job
from models.core.loop import Kernel, Rows, Task
from models.core.model import LoadedModel
from models.core.noise import Key, Noise
from models.core.output import Output
from models.data.holes import holes
from models.systems.registry import load_from

Figures: TypeAlias = Iterator[tuple[str, Any]]
"""What a section measures, one figure after the other; it can be stopped between them."""


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
def tf32(on: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


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


def varied(value: Tensor, rows: int) -> Tensor:
    """Copies of one row that differ, where they are not plain numbers of the row."""
    row = value[0].flatten()
    if not value.is_floating_point() or row.numel() == 1:
        return value.expand(rows, *value.shape[1:]).clone()
    moved = [row.roll(37 * k) * (1 - 0.5 * k / rows) for k in range(rows)]
    return torch.stack(moved).reshape(rows, *value.shape[1:])


def quiet(rows: Rows) -> Rows:
    """The same state without noise in its step, whichever chain it is of."""
    return {name: value for name, value in rows.items() if name not in ("tau", "s0", "s1")}


def noisy(rows: Rows, scale: float) -> Rows:
    """The same with noise."""
    scaled = torch.full_like(rows["lr" if "lr" in rows else "eta"], scale)
    return {**quiet(rows), **dict.fromkeys(("s0", "s1") if "lr" in rows else ("tau",), scaled)}
