r"""Mixtures of logistic distributions: the logit of their distribution function, its slope, and its inverse.

.. math:: c(x) = \sum_k \pi_k \, \sigma((x - \mu_k) e^{-s_k}), \quad \ell(x) = \log c(x) - \log (1 - c(x))

Both logarithms are sums in the log domain. Forming c first loses the upper tail: 1 - c has no digits left in single
precision where l is 17.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BISECTIONS = 40
"""Halvings of the bracket of an inverse. Their number is fixed: a stop that looks at the data would couple rows."""

_LEVEL = -30.0
"""The least log of a slope that an inverse is differentiated through."""


class Mixture(NamedTuple):
    """K components for each element of x ``[n, ...]``: each ``[n, K, ...]``, with logs of weights that sum to 1."""

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor


def logit(x: Tensor, mixture: Mixture) -> tuple[Tensor, Tensor]:
    """l(x), and the logarithm of its derivative; both like x."""
    log_weights, means, log_scales = mixture
    z = (x[:, None] - means) * torch.exp(-log_scales)
    below, above = F.logsigmoid(z), F.logsigmoid(-z)
    log_cdf, log_sf = torch.logsumexp(log_weights + below, 1), torch.logsumexp(log_weights + above, 1)
    log_pdf = torch.logsumexp(log_weights + below + above - log_scales, 1)
    return log_cdf - log_sf, log_pdf - log_cdf - log_sf


def unlogit(target: Tensor, mixture: Mixture, bisections: int = BISECTIONS) -> Tensor:
    r"""x with l(x) = target, like target.

    Where gradients are wanted they are those of the inverse function: the bisection finds the root without any, and one
    step of Newton's method from there, whose length is 0, has them: :math:`dx = (d target - d_\theta l) / l'(x)`.

    The tail with less than half of the mass is compared, for it has all its digits, and in the log domain: sharp
    components make l of some hundreds. The bracket holds the root for every target: where each component is further
    than \\|target\\| of its own scales away, l is beyond the target.
    """
    root = _root(target, mixture, bisections)
    if not torch.is_grad_enabled():
        return root
    value, log_slope = logit(root, mixture)
    # Where l is level its inverse is steep beyond all numbers; a chain turns back there.
    step = (target - value) * torch.exp(-log_slope.detach().clamp(min=_LEVEL))
    return root + (step - step.detach())


def _root(target: Tensor, mixture: Mixture, bisections: int) -> Tensor:
    log_weights, means, log_scales = mixture
    with torch.no_grad():
        side = torch.where(target > 0, -1.0, 1.0).to(target.dtype)
        slopes = side[:, None] * torch.exp(-log_scales)
        wanted = F.logsigmoid(side * target)
        reach = (target.abs() + 1)[:, None] * log_scales.exp()
        low, high = (means - reach).amin(1), (means + reach).amax(1)
        for _ in range(bisections):
            low, high = halved(low, high, log_weights, means, slopes, side, wanted)
        return (low + high) / 2


def halved(
    low: Tensor, high: Tensor, log_weights: Tensor, means: Tensor, slopes: Tensor, side: Tensor, wanted: Tensor
) -> tuple[Tensor, Tensor]:
    """The half of each bracket that holds the root, see :func:`unlogit`."""
    middle = (low + high) / 2
    tail = torch.logsumexp(log_weights + F.logsigmoid((middle[:, None] - means) * slopes), 1)
    beyond = side * (tail - wanted) > 0
    return torch.where(beyond, low, middle), torch.where(beyond, middle, high)
