r"""Langevin inference of a latent: which X, and which label, would make the initializer g give a certain image?

With the residual :math:`R = Y - g(X, C)` the value of a row is the log joint density, up to a constant:

.. math:: l(X, A) = -\frac{\|R\|^2}{2 \sigma^2} - \frac{\|X\|^2}{2} - \frac{\|A\|^2}{2}

CCoopNets (Xie et al.) climb it with noise. Eq. 19 moves the latent, and where the label is not known eq. 20 moves the
numbers A of a soft label :math:`C = \mathrm{softmax}(A)`:

.. math::
    X \leftarrow X + \tfrac{s^2}{2} \, \nabla_X l + s U, \qquad A \leftarrow A + \tfrac{s^2}{2} \, \nabla_A l + s U'

The paper prints no schedule. Here the first 60 % of a row's ticks have noise. The other 40 % have none, and a move
that would lower l is taken back while the row halves its s. After 80 % the soft label is hardened to the one-hot of
argmax A, since its prior keeps it soft, and X alone moves on.
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


def known_label(g: Initializer, latent: int, sigma: float = SIGMA) -> LatentChain:
    """Infer X alone, by eq. 19, with C as it is in the state. A tick is one gradient.

    Args:
        g: the initializer.
        latent: d, the size of X.
        sigma: see :data:`SIGMA`.
    """

    def evaluate(rows: Rows) -> Rows:
        x = rows["x"].detach().requires_grad_(True)
        with torch.enable_grad():
            value = _log_joint(g(x, rows["c"]), rows["y"], sigma, x)
            (grad_x,) = torch.autograd.grad(value.sum(), (x,))
        return {"l": value.detach(), "grad_x": grad_x}

    def start(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t
        rows = {**rows, "x": noise.normal(latent)}
        return {**rows, **evaluate(rows)}

    def step(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        noisy, _ = _phase(rows, t)
        return _move(rows, "x", _kick(noise, latent, noisy), noisy, evaluate)

    return LatentChain(start, step)


def unknown_label(g: Initializer, latent: int, classes: int, sigma: float = SIGMA) -> LatentChain:
    """Infer X and the label, by eqs. 19 and 20: a tick is one step of X, then one step of A at the new X.

    The state's ``c`` is overwritten: softmax(A), and at the end the one-hot label. Both gradients come from one
    backward pass, two of them a tick.

    Args:
        g: the initializer.
        latent: d, the size of X.
        classes: K, the size of A.
        sigma: see :data:`SIGMA`.
    """

    def evaluate(rows: Rows, soft: Tensor) -> Rows:
        x, a = (rows[name].detach().requires_grad_(True) for name in ("x", "a"))
        with torch.enable_grad():
            hard = torch.nn.functional.one_hot(a.argmax(1), classes).to(a.dtype)
            c = torch.where(soft[:, None], a.softmax(1), hard)
            value = _log_joint(g(x, c), rows["y"], sigma, x, a)
            grad_x, grad_a = torch.autograd.grad(value.sum(), (x, a))
        return {"c": c.detach(), "l": value.detach(), "grad_x": grad_x, "grad_a": grad_a}

    def start(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        rows = {**rows, "x": noise.normal(latent), "a": noise.normal(classes)}
        return {**rows, **evaluate(rows, _phase(rows, t)[1])}

    def step(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        noisy, soft = _phase(rows, t)
        rows = _move(rows, "x", _kick(noise, latent, noisy), noisy, lambda moved: evaluate(moved, soft))
        _, stays_soft = _phase(rows, t + 1)
        hardens = soft & ~stays_soft  # l is another function from here on, so it may drop
        moved = _move(
            rows, "a", _kick(noise, classes, noisy), noisy | hardens, lambda moved: evaluate(moved, stays_soft)
        )
        return _where(soft, moved, rows)

    return LatentChain(start, step)


def _log_joint(image: Tensor, y: Tensor, sigma: float, *latents: Tensor) -> Tensor:
    """l of each row, ``[rows]``."""
    residual = (y - image).flatten(1).square().sum(1) / (2 * sigma**2)
    return -residual - sum(latent.square().sum(1) for latent in latents) / 2


def _phase(rows: Rows, t: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows have noise, and which have a soft label, at tick t of their own number of ticks."""
    return 5 * t < 3 * rows["ticks"], 5 * t < 4 * rows["ticks"]


def _kick(noise: Noise, size: int, noisy: Tensor) -> Tensor:
    """Noise for the rows that have it, 0 for the others, ``[rows, size]``."""
    if not bool(noisy.any()):
        return torch.zeros(len(noisy), size, device=noisy.device)
    return torch.where(noisy[:, None], noise.normal(size), 0.0)


def _move(rows: Rows, name: str, kick: Tensor, free: Tensor, evaluate: Callable[[Rows], Rows]) -> Rows:
    """One Langevin step of X or A. Where it lowers l, unless the row is ``free`` to, it is undone and s halved."""
    s = rows["s"]
    there = {**rows, name: rows[name] + s**2 / 2 * rows[f"grad_{name}"] + s * kick}
    there |= evaluate(there)
    return _where(free | (there["l"] >= rows["l"]), there, {**rows, "s": s / 2})


def _where(mask: Tensor, this: Rows, that: Rows) -> Rows:
    """The rows of ``this`` where the mask ``[rows]`` is true, else those of ``that``."""
    return {k: torch.where(mask.reshape(-1, *[1] * (v.dim() - 1)), v, that[k]) for k, v in this.items()}
