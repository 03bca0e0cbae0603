"""What a trained CCoopNets can do, each task a generator that reads like the paper's algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from models.loop import Loop, Rows, RowsError, Task
from models.noise import row_seeds
from models.systems.base import Output

if TYPE_CHECKING:
    from models.systems.ccoopnets.model import CCoopNets

MAX_PIXEL = 5.0
"""Images live in [-1, 1]; a chain beyond this has diverged."""


class GenerateJob(Protocol):
    """The resolved request of ``generate``."""

    n: int
    seed: int
    steps: int
    step_size: float
    noise: float
    refine: bool
    label: Mapping[str, float]


def generate(model: CCoopNets, job: GenerateJob) -> Task[Output]:
    """Images of a class, or of a mix of classes (sections 4.1.2 and 4.1.3 of the paper): propose, then refine.

    ``step_size`` multiplies the eta that the model was trained with; ``noise`` is tau.
    """
    seeds = row_seeds(job.seed, job.n)
    rows = _start(model, job)
    rows = yield Loop(model.propose, rows, steps=1, seeds=seeds, name="propose")  # fast thinking
    if job.refine:
        rows = yield Loop(  # slow thinking
            model.refine, rows, steps=job.steps, seeds=seeds, name="refine", preview=pictures
        )
    rows = yield Loop(model.evaluate, rows, steps=1, seeds=seeds, name="score")
    if float(rows["y"].abs().max()) > MAX_PIXEL:
        raise RowsError(f"the chain left the range of images (|Y| > {MAX_PIXEL:g}); lower step_size, steps or noise")
    return Output(images=pictures(rows), energy=-rows["f"], seeds=seeds)


def pictures(rows: Rows) -> Tensor:
    """The images of the rows, clipped to [-1, 1]."""
    return rows["y"].clamp(-1, 1)


def _start(model: CCoopNets, job: GenerateJob) -> Rows:
    one = torch.ones(job.n, 1, 1, 1, device=model.device)
    label = torch.tensor([job.label.get(name, 0.0) for name in model.classes], device=model.device)
    return {
        "c": label.expand(job.n, -1).clone(),
        "eta": one * job.step_size * model.config.refinement.eta,
        "rho": one * model.config.refinement.rho,
        "tau": one * job.noise,
    }
