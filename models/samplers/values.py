"""Kernels that tell the value f (negative energy) of rows: once, or along a refinement."""

from __future__ import annotations

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.langevin import Value


def evaluation(value: Value) -> Kernel:
    r"""Build a one-step kernel that adds ``f`` ``[]``, the value of each row as it is when clipped to an image.

    With a Gaussian reference its term is included, :math:`f(Y, C) - \rho \|Y\|^2 / 2`: the log density of Y given C up
    to a constant of C (Xie et al., eq. 2). The state has ``y`` and ``rho``, and what ``value`` needs.
    """

    def evaluate(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        del t, noise
        with torch.no_grad():
            y = rows["y"].clamp(-1, 1)
            reference = rows["rho"].flatten() * y.flatten(1).square().sum(1) / 2
            return {**rows, "f": value({**rows, "y": y}) - reference}

    return evaluate


def tracked(step: Kernel, evaluate: Kernel) -> Kernel:
    """Build a refinement step that writes the value of each row after step t to place t of its ``trace`` ``[steps]``.

    Args:
        step: the refinement step.
        evaluate: adds ``f``, see :func:`evaluation`.
    """

    def track(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        after = step(rows, t, noise)
        value = evaluate(after, t, noise)["f"]
        return {**after, "trace": rows["trace"].scatter(1, t[:, None], value[:, None])}

    return track


def filmed(step: Kernel) -> Kernel:
    """Build a step that also notes the image before every ``every``-th step in ``film``.

    Further state of a row: ``film`` ``[frames, C, H, W]``, ``every`` int64 ``[]``; frames beyond the film are left out.
    """

    def film(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        place, rest = t // rows["every"], t % rows["every"]
        frames = torch.arange(rows["film"].shape[1], device=t.device)
        now = ((frames[None] == place[:, None]) & (rest == 0)[:, None]).view(*rows["film"].shape[:2], 1, 1, 1)
        return {**step(rows, t, noise), "film": torch.where(now, rows["y"][:, None], rows["film"])}

    return film
