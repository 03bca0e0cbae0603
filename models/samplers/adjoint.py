r"""Descent on the start of a chain, through the chain.

A chain of T steps without noise, :math:`x_{t+1} = x_t + \eta \nabla f(x_t)` (Xie et al., ICLR 2022, eq. 3), is a
residual map F. To find the start whose end is nearest to a target where it is known, an image ``hat`` descends

.. math:: L(\hat x) = \|M \odot (F(\hat x) - x)\|^2

by its gradient (section 5.3), which is the adjoint of the chain

.. math:: \lambda_T = 2 M \odot (x_T - x), \quad \lambda_t = \lambda_{t+1} + \eta H(x_t) \lambda_{t+1}

with H the Hessian of f. The points of the chain are kept and one step is differentiated at a time, so memory does not
grow with T but for T images. One iteration is a loop of T steps of :func:`noted` and one of T steps of
:func:`descent`; rows with other T, target or number of iterations share its batches.

The state of a row: ``y``, ``eta`` and the rest of the chain's state; ``length`` T, int64 ``[]``; ``path``
``[at least T, C, H, W]``; ``lam``, ``target``, ``best``, ``image``, each like ``y``; ``known`` M, 1 = observed;
``rate`` and ``decay``, ``[1, 1, 1]``; ``loss``, ``least`` ``[]``; ``curve`` ``[at least the number of iterations]``;
``iteration`` int64 ``[]``; ``done`` bool ``[]``. :func:`begin` makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.langevin import UNBOUNDED, Value

Product: TypeAlias = Callable[[Rows], Tensor]
"""Rows with ``y`` and ``lam`` -> H(y) lam, like y."""

WORSE = 1.5
"""A row whose loss is so many times its least one goes back to its best start, and halves its rate."""
GOOD_ENOUGH = 1e-4
"""The mean squared difference of an element at which a row is done, in units of the range [-1, 1]."""
PATIENCE, GAIN = 20, 1e-3
"""A row is done too when so many iterations have lowered its loss by less than this share."""


def begin(
    rows: Rows,
    target: Tensor,
    known: Tensor,
    *,
    rate: float,
    decay: float,
    steps: int,
    iterations: int,
    room: int = 0,
) -> Rows:
    """The state before the first iteration.

    Args:
        rows: the chain's state, at the first start.
        target: like ``y``; what it is where it is not known does not matter.
        known: M, broadcastable to ``y``.
        rate: of the first iteration.
        decay: what each iteration multiplies it by.
        steps: T of each row.
        iterations: the size of ``curve``.
        room: the size of ``path`` where that is greater than T, so that rows with other T share batches.
    """
    y = rows["y"]
    n, one = len(y), torch.ones(len(y), 1, 1, 1, device=y.device, dtype=y.dtype)
    zero = y.new_zeros(n)
    none = torch.zeros(n, dtype=torch.int64, device=y.device)
    return {
        **rows,
        "length": none + steps,
        "path": y[:, None].repeat(1, max(steps, room), 1, 1, 1),
        "lam": torch.zeros_like(y),
        "target": target.expand_as(y).clone(),
        "known": known.expand_as(y).clone(),
        "best": y.clone(),
        "image": y.clone(),
        "rate": one * rate,
        "decay": one * decay,
        "loss": zero,
        "least": zero + UNBOUNDED,
        "curve": y.new_zeros(n, iterations),
        "iteration": none,
        "done": none.bool(),
    }


def noted(step: Kernel) -> Kernel:
    """Build a step that also writes the image before step t to place t of ``path``."""

    def note(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        places = torch.arange(rows["path"].shape[1], device=t.device)
        now = (places[None] == t[:, None])[:, :, None, None, None]
        return {**step(rows, t, noise), "path": torch.where(now, rows["y"][:, None], rows["path"])}

    return note


def hessian_product(value: Value) -> Product:
    """H(y) lam of the value f, by differentiating <grad f, lam>."""

    def product(rows: Rows) -> Tensor:
        y = rows["y"].detach().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(value({**rows, "y": y}).sum(), y, create_graph=True)
            if not gradient.requires_grad:  # f is linear
                return torch.zeros_like(y)
            (found,) = torch.autograd.grad(gradient, y, rows["lam"], allow_unused=True)
        return torch.zeros_like(y) if found is None else found.detach()

    return product


def descent(product: Product) -> Kernel:
    """Build a step of the adjoint. The first of its T steps begins at the difference to the target, the last one moves
    the start and sets the chain to it.
    """

    def step(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del noise
        begins, ends = t == 0, t == rows["length"] - 1
        rows = {
            **rows,
            "lam": _pick(begins, misfit(rows), rows["lam"]),
            "loss": _pick(begins, error(rows), rows["loss"]),
        }
        x = rows["path"][torch.arange(len(t), device=t.device), rows["length"] - 1 - t]
        rows["lam"] = rows["lam"] + rows["eta"] * product({**rows, "y": x})
        moved = _moved(rows)
        return {**rows, **{name: _pick(ends, value, rows[name]) for name, value in moved.items()}}

    return step


def straight() -> Kernel:
    """Build the descent that takes the adjoint of the chain for the identity, lambda_0 = lambda_T: one step in place of
    T, without a second derivative. Not from the paper, and of use only while :func:`cosine` is near 1.
    """

    def step(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        rows = {**rows, "lam": misfit(rows), "loss": error(rows)}
        return {**rows, **_moved(rows)}

    return step


def misfit(rows: Rows) -> Tensor:
    """lambda_T of chains that have ended, like ``y``."""
    return 2 * rows["known"] * (rows["y"] - rows["target"])


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of the angle between two images of each row, ``[n]``."""
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1), 1)


def error(rows: Rows) -> Tensor:
    """The mean squared difference of ``y`` to the target where it is known, in units of the range [-1, 1], ``[n]``."""
    squares = (rows["known"] * (rows["y"] - rows["target"])).square()
    return squares.flatten(1).sum(1) / rows["known"].flatten(1).sum(1).clamp(min=1)


def judged(rows: Rows) -> Rows:
    """``best``, ``image`` and ``least`` with the chain that has just ended: where it came nearer it is the best."""
    loss = error(rows)
    better = loss < rows["least"]
    return {
        "best": _pick(better, rows["path"][:, 0], rows["best"]),
        "image": _pick(better, rows["y"], rows["image"]),
        "least": torch.where(better, loss, rows["least"]),
    }


def _moved(rows: Rows) -> Rows:
    """What changes at the end of an iteration."""
    loss, j, curve = rows["loss"], rows["iteration"], rows["curve"]
    best = judged(rows)
    lost = ~(loss <= WORSE * best["least"])  # NaN is lost, too
    start = rows["path"][:, 0]
    after = _pick(lost, best["best"], start - rows["rate"] * rows["lam"]).clamp(-1, 1)
    here = torch.arange(curve.shape[1], device=j.device)[None] == j[:, None]
    curve = torch.where(here, loss[:, None], curve)
    before = curve.gather(1, (j - PATIENCE).clamp(min=0)[:, None])[:, 0]
    stalled = (j >= PATIENCE) & (loss > (1 - GAIN) * before)
    return {
        **best,
        "y": after,
        "rate": torch.where(_beside(lost, start), 0.5, 1.0) * rows["rate"] * rows["decay"],
        "curve": curve,
        "iteration": j + 1,
        "done": rows["done"] | (best["least"] < GOOD_ENOUGH) | stalled | ~loss.isfinite(),
    }


def _beside(mask: Tensor, x: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (x.dim() - 1))


def _pick(mask: Tensor, this: Tensor, that: Tensor) -> Tensor:
    """This where the mask ``[n]`` is true, else that."""
    return torch.where(_beside(mask, this), this, that)
