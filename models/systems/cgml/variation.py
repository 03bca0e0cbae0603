"""How much images around a latent differ from each other: the uncertainty of App. 2.5 of the cGML paper."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.loop import Kernel, Rows
from models.core.noise import Noise
from models.samplers.domains import Domain


def in_ball(noise: Noise, d: int) -> Tensor:
    """Uniform points in the unit ball of d dimensions, ``[n, d]``."""
    direction = F.normalize(noise.normal(d), dim=1)
    return direction * noise.uniform(1) ** (1 / d)


def varying(draw: Callable[[Rows], Tensor], domain: Domain) -> Kernel:
    """Build a step that draws an image at a random place near ``z`` and takes it into ``mean`` and ``spread``.

    ``spread`` is the sum of squared differences from the mean (Welford, 1962), so that equal images give exactly 0.
    Further state of a row: ``delta`` ``[1]``, how far from z a place may be; both sums begin with 0.
    """

    def vary(rows: Rows, t: Tensor, noise: Noise) -> Rows:
        z = rows["z"]
        near = domain.retract(z + rows["delta"] * domain.tangent(z, in_ball(noise, z.shape[1])))
        with torch.no_grad():
            image = draw({**rows, "z": near})
        before = image - rows["mean"]
        mean = rows["mean"] + before / (t + 1).view(-1, 1, 1, 1)
        return {**rows, "mean": mean, "spread": rows["spread"] + before * (image - mean)}

    return vary


def variance(spread: Tensor, k: int) -> Tensor:
    """The unbiased variance of k images, averaged over their channels: ``[n, C, H, W] -> [n, 1, H, W]``."""
    return spread.mean(1, keepdim=True) / max(k - 1, 1)
