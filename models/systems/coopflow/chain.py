"""The chain of CoopFlow, in training as in serving: a proposal of the flow, refined under the energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from models.core.loop import Kernel, Loop, Rows, RowsError, Task
from models.core.noise import Noise
from models.core.rows import MAX_PIXEL
from models.samplers.langevin import UNBOUNDED

FREE = 50.0
"""A pixel of a chain without bounds that is beyond this has diverged."""
_MOST_CUT = 0.5
"""A row with more of its pixels kept from going further in its last step has not followed its energy."""


def bounded_numbers(n: int, delta: float, drift: float, noise: float, device: torch.device) -> Rows:
    """The numbers of n rows that make images: pixels stay in [-1, 1]; see :func:`models.samplers.langevin.langevin`.

    Args:
        n: rows.
        delta: the step is ``delta^2 / 2`` times the gradient.
        drift: the most that a pixel drifts in a step.
        noise: the standard deviation that a step adds; with none there is no ``tau``.
        device: where the rows live.
    """
    return _numbers(n, delta, drift, 1.0, noise, device)


def free_numbers(n: int, delta: float, device: torch.device) -> Rows:
    """The same without bounds and noise: within a descent a pixel that is clamped would lose its gradient."""
    return _numbers(n, delta, UNBOUNDED, UNBOUNDED, 0.0, device)


def _numbers(n: int, delta: float, drift: float, end: float, noise: float, device: torch.device) -> Rows:
    one = torch.ones(n, 1, 1, 1, device=device)
    bounds = {"kappa": drift, "lo": -end, "hi": end}
    numbers = {"eta": delta**2 / 2, "rho": 0.0, **({"tau": noise} if noise else {}), **bounds}
    return {**{name: one * number for name, number in numbers.items()}, "cut": torch.zeros(n, device=device)}


def proposing(propose: Callable[[Tensor], Tensor], channels: int, size: int) -> Kernel:
    """A one-step kernel that draws latents and adds them as ``z``, and their images as ``y``."""
    return partial(_propose, propose, (channels, size, size))


def _propose(propose: Callable[[Tensor], Tensor], shape: Sequence[int], rows: Rows, t: Tensor, noise: Noise) -> Rows:
    del t
    z = noise.normal(*shape)
    return {**rows, "z": z, "y": propose(z)}


def noise_start(channels: int, size: int) -> Kernel:
    """A one-step kernel that adds ``y``, uniform noise in [-1, 1]."""
    return partial(_noise_start, (channels, size, size))


def _noise_start(shape: Sequence[int], rows: Rows, t: Tensor, noise: Noise) -> Rows:
    del t
    return {**rows, "y": 2 * noise.uniform(*shape) - 1}


def refined(
    step: Kernel,
    rows: Rows,
    steps: int,
    seeds: Sequence[int],
    preview: Callable[[Rows], Tensor] | None = None,
    judge: Kernel | None = None,
) -> Task[Rows]:
    """So many steps of the chain; ``judge`` adds ``f`` for previews.

    A row that has diverged beside others that have not is NaN.

    Raises:
        RowsError: all have diverged.
    """
    rows = yield Loop(
        step, rows, steps, seeds, "refine", preview=preview, judge=judge, keep=["cut", "y"], bound=MAX_PIXEL
    )
    if not bool((rows["cut"] <= _MOST_CUT).any()):
        raise RowsError("the chain diverged: most pixels would have gone further than their bound; lower step_size")
    return blanked(rows)


def blanked(rows: Rows) -> Rows:
    """The ends of chains; a row that has diverged is NaN."""
    lost = ~(rows["cut"] <= _MOST_CUT)
    return {**rows, "y": torch.where(lost.view(-1, 1, 1, 1), torch.nan, rows["y"])}


def proposed_and_refined(
    propose: Kernel,
    step: Kernel,
    rows: Rows,
    steps: int,
    seeds: Sequence[int],
    preview: Callable[[Rows], Tensor] | None = None,
    judge: Kernel | None = None,
) -> Task[tuple[Tensor, Rows]]:
    """Proposals, and the rows after so many steps from there.

    Raises:
        RowsError: the chain has diverged.
    """
    proposed = yield Loop(propose, rows, steps=1, seeds=seeds, name="propose", keep=["y"])
    rows = yield from refined(step, {**rows, "y": proposed["y"]}, steps, seeds, preview, judge)
    return proposed["y"], rows
