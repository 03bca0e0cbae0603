"""Short-run Langevin refinement, the slow thinking of CCoopNets and CoopFlow.

One kernel serves every preset and task; the differences are numbers that belong to the row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise

Value: TypeAlias = Callable[[Rows], Tensor]
"""Rows -> the value f (negative energy) of each row, ``[rows]``; it must read the image from ``rows["y"]``."""


UNBOUNDED = 1e30
"""A bound that no chain reaches. An infinite one would be taken for a chain that has diverged."""


def ascend(value: Value, rows: Rows) -> Tensor:
    """The gradient of each row's value with respect to its image, ``[rows, C, H, W]``.

    The *sum* over rows is differentiated: with networks that treat each row by itself this is each row's own gradient,
    and unlike the mean it does not divide the step by the batch size. A value may bring its gradient as its attribute
    ``gradient``, as what :func:`models.serving.served` gives does.
    """
    if hasattr(value, "gradient"):
        given: Tensor = value.gradient(rows)
        return given
    y = rows["y"].detach().requires_grad_(True)
    with torch.enable_grad():
        total = value({**rows, "y": y}).sum()
    (gradient,) = torch.autograd.grad(total, y)
    return gradient


def langevin(value: Value) -> Kernel:
    r"""Build the refinement step of CCoopNets (Xie et al., eq. 5, with the Gaussian reference of the authors' code).

    .. math:: Y \leftarrow Y + m \, [\, \eta \, (\nabla_Y f(Y, C) - \rho \, Y) + \tau \, U \,], \quad U \sim N(0, I)

    The state of a row: ``y`` image ``[C, H, W]``; ``eta`` step size and ``rho`` weight of the reference, each
    ``[1, 1, 1]``; optional ``tau`` ``[1, 1, 1]``, the scale of the noise: rows that want none leave it out, and no
    number is drawn for them; optional ``mask`` m, broadcastable to the image, 1 = updated. All else in the state (the
    condition) is passed on to ``value``. The paper's constants are eta = d^2/2, rho = 1/s^2 and tau = d.

    The chain of CoopFlow has bounds (its authors' code; Xie et al., ICLR 2022, print none): ``kappa``, the most that an
    element may drift in a step, and ``lo`` and ``hi``, the least and greatest pixel after it, each ``[1, 1, 1]``;
    :data:`UNBOUNDED` ones change nothing. With them the state has ``cut`` ``[]``, the share of elements that ``kappa``
    kept from going further in the last step.

    Args:
        value: f.
    """

    def step(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t  # the step is the same at every index
        y = rows["y"]
        move = rows["eta"] * (ascend(value, rows) - rows["rho"] * y)
        if "kappa" in rows:
            rows, move = _bounded(rows, move)
        if "tau" in rows:
            move = move + rows["tau"] * noise.normal(*y.shape[1:])
        if "mask" in rows:
            # where, not a product: outside the mask the image stays bit for bit, whatever the gradient is there.
            return {**rows, "y": torch.where(rows["mask"] > 0, y + rows["mask"] * move, y)}
        after = y + move
        return {**rows, "y": after.clamp(rows["lo"], rows["hi"]) if "kappa" in rows else after}

    return step


def _bounded(rows: Rows, drift: Tensor) -> tuple[Rows, Tensor]:
    """The drift within kappa, and the rows with the share of elements that would have gone further without that. One
    that stays at the least or greatest pixel would not, however hard it is driven there.
    """
    kept = drift.clamp(-rows["kappa"], rows["kappa"])
    after = rows["y"] + kept
    shortened = (kept != drift) & (after > rows["lo"]) & (after < rows["hi"])
    return {**rows, "cut": shortened.flatten(1).float().mean(1)}, kept
