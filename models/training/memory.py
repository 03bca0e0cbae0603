"""How much memory a training takes: measured in steps with a few rows, and extended to the size of its batches.

What grows with a batch is what autograd saves of each row for the way back; it is counted as it is saved, on every
device alike. The rest is the state: weights, averages and moments, their gradients, and the copies that are saved.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, final

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from models.core.loop import RowsError
from models.systems.base import Trainer, Variant
from models.systems.registry import VARIANTS
from models.training.configuration import TrainingError
from models.training.offer import offered_plans
from models.training.plan import Plan

HELD_FACTOR = 2.0
"""What a step holds, over what is saved for the way back: gradients and scratch. 1.5 to 2.8 was measured on a CPU."""
STATE_FACTOR = 2.25
"""What the state takes, over its tensors: the gradients of the weights, and the copy that is being saved."""
_FIRST_ROWS = 2
_TRIAL_SHARE = 8
"""A trial may take this part of the limit, by what the trials before it tell."""


@dataclass(frozen=True)
class Need:
    """The bytes that a stage of a training takes: ``fixed``, and ``row`` for each row of its batches of ``rows``."""

    fixed: float
    row: float
    rows: int

    def total(self, rows: int | None = None) -> float:
        """In all, with batches of so many rows."""
        return self.fixed + self.row * (self.rows if rows is None else rows)


def check_memory(plan: Plan, limit: int) -> None:
    """Refuse a training that would take more memory than it may, before it begins.

    Trials begin with two rows a batch. Some of what they take does not go on growing with the rows, so larger trials
    are made before a training is refused, as long as these are small beside the limit.

    Raises:
        TrainingError: it takes more than ``limit`` bytes, or no model can be built with its settings.
    """
    rows = _FIRST_ROWS
    while True:
        worst = max(needs(plan, rows, limit), key=Need.total)
        if worst.total() <= limit:
            return
        rows *= 2
        if rows >= worst.rows or worst.total(2 * rows) > limit / _TRIAL_SHARE:
            raise TrainingError(too_much(worst.total(), limit, worst.rows))


def too_much(total: float, limit: float, rows: int) -> str:
    """Why a training is refused."""
    return (
        f"with {rows} images a batch this training would take about {total / 2**30:.1f} GiB of memory, but it may take "
        f"{limit / 2**30:.1f} GiB; choose a smaller batch_size or preset, or let the operator raise "
        "COOPSERVE_TRAINING_MEMORY_BYTES"
    )


def needs(plan: Plan, rows: int, limit: float = float("inf")) -> list[Need]:
    """What each stage takes, from a step with ``rows`` and one with twice as many rows.

    Raises:
        TrainingError: the weights alone take more than ``limit``, or no model can be built.
    """
    found = []
    with bounded(limit / STATE_FACTOR):
        few, more = (_trial(plan, _small(plan.config, count)) for count in (rows, 2 * rows))
    sizes = list(batches(plan.config))
    for stage, ((_, saved), (state, more_saved)) in enumerate(zip(few, more, strict=True)):
        row = (more_saved - saved) / rows
        fixed = STATE_FACTOR * state + HELD_FACTOR * (saved - row * rows)
        found.append(Need(fixed, HELD_FACTOR * row, sizes[min(stage, len(sizes) - 1)]))
    return found


def _trial(plan: Plan, config: Any) -> list[tuple[int, int]]:
    """For each stage the bytes of the state, and what a step saves for the way back at most."""
    gc.collect()  # a trainer holds itself by its kernels: the one of the last trial is still there
    trainer, found = plan.trainer(config), []
    while True:
        stage = trainer.stage
        with saved_bytes() as meter, suppress(RowsError):  # a chain that diverges has taken as much
            trainer.step(0, 1.0, 0)
        found.append((_bytes(trainer), meter.most))
        # A stage of one iteration is over by then.
        if trainer.stage == stage and not trainer.leave_stage():
            return found


def _bytes(trainer: Trainer) -> int:
    return sum(tensor.nbytes for tensor in trainer.state().values())


def _small(config: BaseModel, rows: int) -> BaseModel:
    """The same with batches of so many rows and chains of one step, since each step frees what it saved.

    It is not validated: the length of a growth may depend on the batches.
    """
    own = {"batch_size": rows, "steps": 1}

    def small(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return _small(value, rows)
        return tuple(map(small, value)) if isinstance(value, tuple) else value

    return config.model_copy(update={name: own[name] if name in own else small(value) for name, value in config})


def batches(config: BaseModel) -> Iterator[int]:
    """The sizes of batches in a configuration: one, or one for each stage."""
    for name, value in config:
        if name == "batch_size":
            yield value
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, BaseModel):
                yield from batches(part)


@final
class _Meter:
    """Counts the storages that are held for the way back, each once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._holders: dict[int, int] = {}

    def hold(self, place: int, nbytes: int) -> None:
        holders = self._holders.get(place, 0)
        self._holders[place] = holders + 1
        if not holders:
            self.now += nbytes
            self.most = max(self.most, self.now)

    def drop(self, place: int, nbytes: int) -> None:
        self._holders[place] -= 1
        if not self._holders[place]:
            del self._holders[place]
            self.now -= nbytes


@final
class _Held:
    """A tensor that autograd holds."""

    def __init__(self, meter: _Meter, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.tensor, self._meter, self._about = tensor, meter, (storage.data_ptr(), storage.nbytes())
        meter.hold(*self._about)

    def __del__(self) -> None:
        self._meter.drop(*self._about)


@contextmanager
def saved_bytes() -> Iterator[_Meter]:
    """Count what autograd saves in the block; ``most`` of the meter is the most at a time."""
    meter = _Meter()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Held(meter, tensor), lambda held: held.tensor):
        yield meter


@contextmanager
def bounded(limit: float) -> Iterator[None]:
    """Networks that are built in the block may have so many bytes of weights; those of one layer are not touched yet
    when they are counted.

    Raises:
        TrainingError: they have more.
    """
    total = 0

    def count(_: nn.Module, __: str, parameter: nn.Parameter | None) -> None:
        nonlocal total
        total += parameter.nbytes if parameter is not None else 0
        if total > limit:
            raise TrainingError(
                f"the networks of these settings take more than {limit / 2**30:.1f} GiB of memory; choose smaller ones"
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def figures(variants: Mapping[str, Variant] = VARIANTS) -> dict[str, Any]:
    """What the service is told: for each preset the bytes with its own batches, and for each further row of them."""
    found: dict[str, dict[str, Any]] = {}
    for system, preset, plan in offered_plans(variants):
        found.setdefault(system, {})[preset] = figures_of(plan)
    return found


def figures_of(plan: Plan) -> dict[str, int]:
    """Of one preset."""
    worst = max(needs(plan, _FIRST_ROWS), key=Need.total)
    return {"fixed": round(worst.fixed), "row": round(worst.row), "batch": worst.rows}


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
