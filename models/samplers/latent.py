r"""Langevin inference of a latent: which X would make the initializer g give a certain image?

With the residual :math:`R = Y - g(X, C)` the value of a row is the log joint density, up to a constant:

.. math:: l(X) = -\frac{\|R\|^2}{2 \sigma^2} - \frac{\|X\|^2}{2}

CCoopNets (Xie et al., eq. 19) climbs it with noise:

.. math:: X \leftarrow X + \tfrac{s^2}{2} \, \nabla_X l + s U, \quad U \sim N(0, I)

The paper prints no schedule. Here the first 60 % of a row's ticks have noise. The other 40 % have none, and a move
that would lower l is undone while the row halves its s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise

Initializer: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""g: X ``[rows, d]`` and C ``[rows, K]`` -> images ``[rows, ...]``; it treats each row by itself."""

LogJoint: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""X ``[rows, d]``, C ``[rows, K]`` and the image Y -> l of each row, ``[rows]``."""

SIGMA = 0.3
"""Standard deviation of a pixel around g(X, C), in units of the image's range [-1, 1], as in the paper."""


@dataclass(frozen=True)
class LatentChain:
    """Two kernels: ``start`` (one step) draws the latents and adds the rest of the state, ``step`` is one tick.

    The state before the start: ``y`` the image; ``c`` the label ``[K]``; ``s`` step size ``[1]``; ``ticks`` the number
    of ticks that the row will be given, int64 ``[]``. The start adds ``x``, ``l`` ``[]`` and what the ticks carry on.
    """

    start: Kernel
    step: Kernel


def log_joint(g: Initializer, sigma: float = SIGMA) -> LogJoint:
    """l(X) of each row where the label is known.

    Args:
        g: the initializer.
        sigma: see :data:`SIGMA`.
    """

    def value(x: Tensor, c: Tensor, y: Tensor) -> Tensor:
        residual = (y - g(x, c)).flatten(1).square().sum(1) / (2 * sigma**2)
        return -residual - x.square().sum(1) / 2

    return value


def known_label(value: LogJoint, latent: int) -> LatentChain:
    """Infer X alone, by eq. 19, with C as it is in the state. A tick is one gradient.

    Args:
        value: l, see :func:`log_joint`.
        latent: d, the size of X.
    """

    def evaluate(rows: Rows) -> Rows:
        x = rows["x"].detach().requires_grad_(True)
        with torch.enable_grad():
            found = value(x, rows["c"], rows["y"])
            (grad_x,) = torch.autograd.grad(found.sum(), (x,))
        return {"l": found.detach(), "grad_x": grad_x}

    def start(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t
        rows = {**rows, "x": noise.normal(latent)}
        return {**rows, **evaluate(rows)}

    def step(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        noisy = _noisy(rows, t)
        return _move(rows, _kick(noise, latent, noisy), noisy, evaluate)

    return LatentChain(start, step)


def _noisy(rows: Rows, t: Tensor) -> Tensor:
    """Which rows have noise at tick t of their own number of ticks."""
    return 5 * t < 3 * rows["ticks"]


def _kick(noise: Noise, size: int, noisy: Tensor) -> Tensor:
    """Noise for the rows that have it, 0 for the others, ``[rows, size]``; drawn for all, for a latent is small."""
    return torch.where(noisy[:, None], noise.normal(size), 0.0)


def _move(rows: Rows, kick: Tensor, noisy: Tensor, evaluate: Callable[[Rows], Rows]) -> Rows:
    """One Langevin step of X. Where it lowers l without noise, it is undone and s halved."""
    s = rows["s"]
    there = {**rows, "x": rows["x"] + s**2 / 2 * rows["grad_x"] + s * kick}
    there |= evaluate(there)
    return _where(noisy | (there["l"] >= rows["l"]), there, {**rows, "s": s / 2})


def _where(mask: Tensor, this: Rows, that: Rows) -> Rows:
    """The rows of ``this`` where the mask ``[rows]`` is true, else those of ``that``."""
    return {k: torch.where(mask.reshape(-1, *[1] * (v.dim() - 1)), v, that[k]) for k, v in this.items()}
