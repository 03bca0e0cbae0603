r"""Hamiltonian Monte Carlo: moves that leave a density exactly as it is.

The target of a row is the reference p_0 of its space, tilted by a value f at the row's inverse temperature b:

.. math:: \log p_b(x) = \log p_0(x) + b f(x) + \text{const}

A move draws a velocity v ~ N(0, I), follows the flow of :math:`H = -\log p_b(x) + \|v\|^2 / 2` for L leapfrog steps of
size eps, and is accepted with probability :math:`\min(1, e^{-\Delta H})` (Neal 2011, MCMC using Hamiltonian dynamics;
eq. 2 of Fang and Schwing 2019, Co-Generation with GANs using AIS based HMC). With L = 1 this is MALA.

One step of the kernel is one **leapfrog step**, that is one gradient of f, and every L-th one of a row ends its move:
so rows with different L share a batch, and a chain can be cancelled, saved and resumed within a move. Value and
gradient at x are carried: the first move costs L + 1 gradients and every other L.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

import torch
from torch import Tensor

from models.core.devices import full_precision
from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.spaces import Space

TargetValue: TypeAlias = Callable[[Rows], Tensor]
"""Rows -> the value f of each row, ``[rows]``, differentiable in the point, which it must read from ``rows["x"]``."""

DIVERGED = 1000.0
"""A rise of H by more than this counts as divergent: the step size is far too large, or f is not smooth."""


@final
class Hmc:
    """Two kernels: ``start`` (one step) evaluates f at x and adds the rest of the state, ``step`` is one leapfrog step.

    The state before the start: ``x`` ``[...]``; ``b`` inverse temperature and ``eps`` step size, float64 ``[]``;
    ``leapfrogs`` L, int64 ``[]``; and what f needs. They may be changed between moves. The start adds

    - ``f`` float64 ``[]`` and ``g``, value and gradient at x;
    - ``q``, ``v``, ``f_q``, ``g_q``: the point in flight, its velocity, value and gradient; ``h`` float64 ``[]``, its
      H when it took off; ``u`` ``[]``, the uniform number of its acceptance; ``lost`` bool ``[]``, it met a number that
      is not finite: it flies on from x, and is rejected;
    - ``p`` float64 ``[]``, the acceptance probability of the last move; ``accepted`` and ``divergent``, int64 ``[]``,
      counts of moves.

    A rejected row keeps x, f and g bit for bit. H is a difference of large sums, so it is taken in float64. A step
    reads nothing back from the device: which rows begin or end a move is a mask, and what it picks is made for all.

    ``before``, ``evaluate`` and ``after`` are the parts of a step, for kernels whose rows share the gradient with rows
    of another method.

    Args:
        value: f; it must treat each row by itself.
        space: p_0 and the free flight.
    """

    def __init__(self, value: TargetValue, space: Space) -> None:
        self._value, self._space = value, space
        self.start: Kernel = self._start
        self.step: Kernel = self._step

    def _start(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        x = rows["x"]
        f, g = self.evaluate(rows, x)
        zero, none = torch.zeros_like(f), torch.zeros(len(x), dtype=torch.int64, device=x.device)
        flight = {"q": x, "v": torch.zeros_like(x), "f_q": f, "g_q": g, "h": zero, "lost": none.bool()}
        verdict = {"u": x.new_zeros(len(x)), "p": zero, "accepted": none, "divergent": none}
        return {**rows, "f": f, "g": g, **flight, **verdict}

    def _step(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        rows = self.before(rows, t, noise)
        return self.after(rows, t, *self.evaluate(rows, rows["q"]))

    def before(self, rows: Rows, t: Tensor, noise: Noise) -> Rows:
        """The part of a step before its gradient: rows that begin a move take off, and all fly on to their ``q``."""
        rows = where_rows(t % rows["leapfrogs"] == 0, self._take_off(rows, noise), rows)
        q, v = self._space.drift(rows["q"], rows["v"], _beside(rows["eps"], rows["q"]))
        return {**rows, "q": q, "v": v}

    def evaluate(self, rows: Rows, x: Tensor) -> tuple[Tensor, Tensor]:
        """f, float64 ``[rows]``, and its gradient at x: never rounded to TF32, for differences of f decide moves."""
        x = x.detach().requires_grad_(True)
        with full_precision(), torch.enable_grad():
            f = self._value({**rows, "x": x})
            (g,) = torch.autograd.grad(f.sum(), x)
        return f.detach().double(), g.contiguous()  # of a sum it may be one number, expanded

    def after(self, rows: Rows, t: Tensor, f: Tensor, g: Tensor) -> Rows:
        """The part of a step after its gradient: f and g at ``q`` turn the velocity, and may end the move."""
        ends, q, v = ends_move(rows, t), rows["q"], rows["v"]
        v = v + _beside(torch.where(ends, rows["eps"] / 2, rows["eps"]), q) * self._force(rows, q, g)
        # Infinity and NaN survive a sum, and may not stay in the state: a lost row must not fail its whole job.
        lost = rows["lost"] | ~(f + (q + v + g).flatten(1).sum(1)).isfinite()
        here = {"q": rows["x"], "v": torch.zeros_like(v), "f_q": rows["f"], "g_q": rows["g"]}
        there = where_rows(lost, here, {"q": q, "v": v, "f_q": f, "g_q": g})
        rows = {**rows, **there, "lost": lost}
        return where_rows(ends, self._land(rows), rows)

    def _take_off(self, rows: Rows, noise: Noise) -> Rows:
        """Both draws of a move are made here, so that a row's noise does not depend on where its neighbours are."""
        x, f, g = rows["x"], rows["f"], rows["g"]
        v = noise.normal(*x.shape[1:]).to(x.dtype)
        u = noise.uniform().to(x.dtype)
        half = _beside(rows["eps"] / 2, x)
        start = {"q": x, "v": v + half * self._force(rows, x, g), "f_q": f, "g_q": g, "u": u}
        return {**rows, **start, "h": self._hamiltonian(rows, x, f, v), "lost": torch.zeros_like(rows["lost"])}

    def _land(self, rows: Rows) -> Rows:
        rise = self._hamiltonian(rows, rows["q"], rows["f_q"], rows["v"]) - rows["h"]
        p = torch.where(rows["lost"], 0.0, (-rise).clamp(max=0).exp())
        accepts = rows["u"] < p
        moved = where_rows(accepts, {**rows, "x": rows["q"], "f": rows["f_q"], "g": rows["g_q"]}, rows)
        counts = {
            "accepted": rows["accepted"] + accepts,
            "divergent": rows["divergent"] + (rows["lost"] | (rise > DIVERGED)),
        }
        return {**moved, "p": p, **counts}

    def _force(self, rows: Rows, x: Tensor, g: Tensor) -> Tensor:
        """The gradient of log p_b."""
        return self._space.force(x) + _beside(rows["b"], x) * g

    def _hamiltonian(self, rows: Rows, x: Tensor, f: Tensor, v: Tensor) -> Tensor:
        kinetic = v.double().square().flatten(1).sum(1) / 2
        return kinetic - self._space.log_density(x) - rows["b"] * f


def ends_move(rows: Rows, t: Tensor) -> Tensor:
    """Which rows end a move with leapfrog step t, ``[rows]``."""
    return t % rows["leapfrogs"] == rows["leapfrogs"] - 1


def _beside(number: Tensor, x: Tensor) -> Tensor:
    """One number a row ``[rows]``, in the type of x and broadcastable to it."""
    return number.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1))


def where_rows(mask: Tensor, this: Rows, that: Rows) -> Rows:
    """The rows of ``this`` where the mask ``[rows]`` is true, else those of ``that``."""
    return {
        k: v if v is that[k] else torch.where(mask.reshape(-1, *[1] * (v.dim() - 1)), v, that[k])
        for k, v in this.items()
    }
