r"""A latent vector moved by a network that has learned how descents move it (cGML, section 2.2 and eq. 4).

A predictor gives for each row the expected displacement Delta = E[z' - z] and the expected length rho = E|z' - z| of a
step of the descent that it imitates. Where descents towards several modes cancel, Delta vanishes although no mode is
near: a *phantom* optimum. There rho does not vanish, and pushes on:

.. math:: z_{t+1} = z_t + \alpha \rho(z_t, h) \, d / |d|, \quad d = \text{the tangent part of } \Delta(z_t, h)

No step sees a target: all that a row has is its place, and what its condition made of the predictor's first layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.domains import Domain

Moves: TypeAlias = Callable[[Rows], tuple[Tensor, Tensor]]
"""Rows with ``z`` and what the predictor's condition is -> Delta ``[n, d]`` and rho ``[n]``."""

MOMENTA = ("push_settle", "off", "eq4")
"""How many of the steps have the length rho: the first half, none, or all (the paper)."""

FRAMES = 16
"""Places of a row's way that are noted at most."""

_DIRECTION = 1e-3
"""Below this part of rho, Delta has no direction that more than rounding decides."""
_FLOOR = 1e-6
_ARRIVED = 1e-4
"""A smaller rho means that descents stop here."""


def pushes(momentum: str, steps: int) -> int:
    """How many of so many steps have the length rho."""
    return {"push_settle": steps // 2, "off": 0, "eq4": steps}[momentum]


def walk_rows(z: Tensor, *, alpha: float, pushed: int, every: int = 0) -> Rows:
    """The state of a walk, without what the predictor is conditioned on.

    Args:
        z: starts ``[n, d]``.
        alpha: how many times rho the first steps are long.
        pushed: how many steps have that length.
        every: note each so-many-th place in ``way``; 0: none.
    """
    n, d = z.shape
    return {
        "z": z,
        "alpha": z.new_full((n, 1), alpha),
        "pushed": torch.full((n,), pushed, dtype=torch.int64, device=z.device),
        "every": torch.full((n,), every, dtype=torch.int64, device=z.device),
        "way": z.new_zeros(n, FRAMES, d),
        "kappa": z.new_zeros(n),
        "rho": z.new_zeros(n),
    }


def walking(moves: Moves, domain: Domain) -> Kernel:
    r"""Build the step of a walk; its state is that of :func:`walk_rows`.

    In the first ``pushed`` steps z moves by alpha rho in the direction of d. Where |d| is nothing beside rho, the
    direction is drawn by the row's own noise; where rho is nothing as well, z stays as it is, bit for bit. In the steps
    after these z moves by d itself, and so comes to rest where a step of fixed length would go round in circles.

    ``kappa`` is |d| / rho: 1 where all descents agree, 0 where they cancel. ``rho`` is that of the last step.
    """

    def step(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        z = rows["z"]
        with torch.no_grad():
            delta, rho = moves(rows)
            d = domain.tangent(z, delta)
            m = d.norm(dim=1)
            sure, going = m > _DIRECTION * rho + _FLOOR, rho > _ARRIVED
            direction = torch.where(sure[:, None], d / m.clamp_min(_FLOOR)[:, None], domain.kick(z, noise))
            length = torch.where(sure | going, rho, torch.zeros_like(rho))
            pushed = rows["alpha"] * length[:, None] * direction
            move = torch.where((t < rows["pushed"])[:, None], pushed, d)
            moved = torch.where((move != 0).any(1, keepdim=True), domain.retract(z + move), z)
        kappa = m / rho.clamp_min(_FLOOR)
        return {**rows, "z": moved, "way": _noted(rows, moved, t + 1), "kappa": kappa, "rho": rho}

    return step


def _noted(rows: Rows, z: Tensor, done: Tensor) -> Tensor:
    """The places so far, with this one if its turn has come."""
    every = rows["every"].clamp_min(1)
    now = (rows["every"] > 0) & (done % every == 0)
    at = torch.arange(FRAMES, device=z.device)[None] == (done // every - 1)[:, None]
    return torch.where((at & now[:, None])[..., None], z[:, None], rows["way"])


def beginning(domain: Domain, d: int) -> Kernel:
    """Build a one-step kernel that adds ``z``, a random start; the state may have anything."""

    def begin(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t
        return {**rows, "z": domain.start(noise, d)}

    return begin
