"""What several tasks share: the numbers of the refinement, the refinement itself, and pictures of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from models.core.jobs import Job, Label, needed
from models.core.loop import Kernel, Loop, Rows, Task
from models.core.rows import MAX_PIXEL, pictures
from models.systems.ccoopnets.config import RefinementConfig


class Refiner(Protocol):
    """What refines and tells the value of the result: a model with its solver."""

    @property
    def refine(self) -> Kernel:
        """A step of the refinement."""

    @property
    def evaluate(self) -> Kernel:
        """Adds ``f``."""


def step_numbers(trained: RefinementConfig, job: Job, n: int, device: torch.device) -> Rows:
    """``eta``, ``rho`` and ``tau`` of n rows: ``step_size`` multiplies the trained eta, ``noise`` is tau itself."""
    numbers = trained_numbers(trained, n, device, tau=job.noise)
    return {**numbers, "eta": numbers["eta"] * job.step_size}


def trained_numbers(trained: RefinementConfig, n: int, device: torch.device, *, tau: float) -> Rows:
    """The same as in training; without noise there is no ``tau``."""
    one = torch.ones(n, 1, 1, 1, device=device)
    numbers = {"eta": trained.eta, "rho": trained.rho, **({"tau": tau} if tau else {})}
    return {name: one * number for name, number in numbers.items()}


def label_weights(label: Label | None, classes: Sequence[str], device: torch.device) -> Tensor:
    """A label as weights by class name -> C ``[K]``, in the model's order of classes."""
    weights = needed(label, "label")
    return torch.tensor([weights.get(name, 0.0) for name in classes], device=device)


def refined(step: Kernel, rows: Rows, steps: int, seeds: Sequence[int], judge: Kernel | None = None) -> Task[Rows]:
    """Slow thinking: so many steps of the refinement, in training as in serving; ``judge`` adds ``f`` for previews.

    Raises:
        RowsError: the chain has diverged.
    """
    loop = Loop(step, rows, steps, seeds, "refine", preview=pictures, judge=judge, keep=["y"], bound=MAX_PIXEL)
    return (yield loop)


def refine(model: Refiner, rows: Rows, job: Job, seeds: Sequence[int]) -> Task[Rows]:
    """:func:`refined` with ``job.steps`` unless the job wants none, then the value ``f`` of the result.

    Raises:
        RowsError: the chain has diverged.
    """
    if job.refine:
        rows = yield from refined(model.refine, rows, job.steps, seeds, model.evaluate)
    return (yield Loop(model.evaluate, rows, steps=1, seeds=seeds, name="score"))
