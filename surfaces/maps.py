r"""Spectral maps: the coefficients of a surface as a small picture, each degree on its own scale.

The coefficient with the index k is the cell (k // L, k % L) of an L x L map, and its value is
:math:`c_{lm} / (6 \sigma_l)`, where :math:`\sigma_l` is the root mean square of a degree's coefficients. The paper's
maps are laid out so (cGML, appendix 3.12); it does not say how they are scaled. Six deviations, because bodies with a
mirror image have no odd degrees: at three, the surface of a cone would be wrong by 6 % of its radius. The first cell,
which tells the size alone, is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from surfaces.harmonics import Floats, orders

UNIT = 6.0
"""How many deviations of a degree are 1."""

DEVIATIONS: tuple[float, ...] = (
    3.545, 0.03099, 0.2632, 0.07198, 0.1155, 0.01665, 0.04651, 0.009714,
    0.02309, 0.00685, 0.01382, 0.003066, 0.009608, 0.002541, 0.005911, 0.00208,
    0.004197, 0.001604, 0.003137, 0.001061, 0.002661, 0.0008405, 0.002033, 0.0007297,
    0.001756, 0.0005298, 0.001397, 0.00049, 0.001163, 0.0004331, 0.0009288, 0.0003517,
)  # fmt: skip
"""Of the degrees of bodies of :mod:`surfaces.primitives`, below 32: measured on 20,000 of them."""

MEAN_RADIUS = float(np.sqrt(4 * np.pi))
"""The first coefficient of a surface of mean radius 1."""


def scales(deviations: Sequence[float]) -> Floats:
    """By what a map is multiplied to give coefficients, ``[L^2]``; 0 for the first."""
    degree, _ = orders(len(deviations))
    found: Floats = UNIT * np.array(deviations)[degree]
    found[0] = 0.0
    return found


def to_map(coefficients: Floats, deviations: Sequence[float]) -> Floats:
    """Coefficients of mean radius 1 ``[..., L^2]`` as maps ``[..., L, L]``, not clipped."""
    scale, side = scales(deviations), len(deviations)
    found = np.divide(coefficients, scale, out=np.zeros_like(coefficients), where=scale > 0)
    return found.reshape(*coefficients.shape[:-1], side, side)
