"""The short run of CF-EBM: noisy gradient ascent whose noise follows a schedule over the whole chain."""

from __future__ import annotations

import torch
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.langevin import Value, ascend


def shortrun(value: Value) -> Kernel:
    r"""Build the sampling step of CF-EBM (Zhao, Xie, Li 2021, eq. 3 as the authors execute it).

    .. math:: x \leftarrow x + \lambda \nabla_x f(x) + \sigma_k U, \quad U \sim N(0, I), \quad
              \sigma_k = s_1 + (s_0 - s_1)(1 - k / N)

    The step size and the noise are apart: there is no factor 1/2, and sigma_k is a standard deviation. With the trained
    numbers the chain is nearly a deterministic optimiser, and f is matched to this chain, not to samples of exp(f).

    The state of a row: ``y`` image ``[C, H, W]``; each ``[1, 1, 1]``: ``lr`` step size, ``k0`` the steps of the chain
    before this loop, ``total`` its length N. Optional: ``s0`` and ``s1`` ``[1, 1, 1]``, the noise at the start of the
    chain and the limit it goes to: rows of a chain without noise leave both out, and no number is drawn for them;
    ``mask``, broadcastable to the image, 1 = updated, the other pixels stay bit for bit; ``net`` and ``path``, images
    that gather minus the sum of gradients and the sum of |lr * gradient| (section 3.3's saliency).
    """

    def step(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        y = rows["y"]
        gradient = ascend(value, rows)
        scaled = rows["lr"] * gradient
        move = scaled
        if "s0" in rows:
            sigma = scheduled(rows["s0"], rows["s1"], rows["k0"] + t.view(-1, 1, 1, 1), rows["total"])
            move = move + sigma * noise.normal(*y.shape[1:])
        after = y + move
        if "mask" in rows:
            after = torch.where(rows["mask"] > 0, after, y)
        state = {**rows, "y": after}
        if "net" in rows:
            state |= {"net": rows["net"] - gradient, "path": rows["path"] + scaled.abs()}
        return state

    return step


def scheduled(s0: Tensor, s1: Tensor, k: Tensor, total: Tensor) -> Tensor:
    """The noise of step k of a chain of ``total`` steps: linear from s0 towards s1, which it does not reach."""
    return s1 + (s0 - s1) * (1 - k / total)
