r"""The kernel distance between two sets of images (KID; Binkowski et al., 2018), in features of one's choice.

The unbiased estimate of the squared maximum mean discrepancy with the kernel :math:`k(u, v) = (u \cdot v / d + 1)^3`, d
the number of features:

.. math:: \frac{\sum_{i \ne j} k(x_i, x_j)}{m (m - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{n (n - 1)}
          - \frac{2}{m n} \sum_{i, j} k(x_i, y_j)

All pairs are used, so there are no random subsets and no seed. The kernel is torchmetrics's; its estimate, which takes
sets of one size only and is summed in single precision, is not. Values are comparable only within one feature space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK = 1_000  # rows of the kernel matrix at once
_GROUPS = 10


@dataclass(frozen=True, eq=False)
class Reference:
    """A set that others are compared with; the costly term of its own pairs is computed once.

    Args:
        features: float ``[n, d]``.
        within: the mean of k over pairs of different members.
    """

    features: Tensor
    within: float


def reference(features: Tensor) -> Reference:
    """Prepare features ``[n, d]``, n >= 2, for several comparisons."""
    return Reference(features, _mean_within(features))


def kid(features: Tensor, other: Tensor | Reference) -> float:
    """The unbiased kernel distance between two sets ``[m, d]`` and ``[n, d]``; about 0, or just below, for equal laws.

    Raises:
        ValueError: a set has fewer than two members, or the features differ in number.
    """
    target = other if isinstance(other, Reference) else reference(other)
    if features.shape[1:] != target.features.shape[1:]:
        raise ValueError(f"the sets have features {list(features.shape)} and {list(target.features.shape)}")
    across = _total(features, target.features) / (len(features) * len(target.features))
    return _mean_within(features) + target.within - 2 * across


@dataclass(frozen=True)
class Estimate:
    """A kernel distance with the values that it takes when one group of images is left out at a time."""

    value: float
    without_group: tuple[float, ...]

    @property
    def std_error(self) -> float:
        r"""Delete-a-group jackknife over g groups, :math:`\text{SE}^2 = \frac{g - 1}{g} \sum_k (d_k - \bar d)^2`."""
        values = torch.tensor(self.without_group, dtype=torch.float64)
        return float(((len(values) - 1) * values.var(correction=0)).sqrt())

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference of two distances whose groups are the same images, with the error of the difference."""
        left_out = tuple(a - b for a, b in zip(self.without_group, other.without_group, strict=True))
        return Estimate(self.value - other.value, left_out)


def kid_with_error(features: Tensor, other: Tensor, groups: int = _GROUPS) -> Estimate:
    """The unbiased kernel distance and the standard error of its sampling: for sets of a few hundred.

    Both sets are cut into groups in their order, and the distance is computed again without the k-th group of either.
    Generated images should be in the order of the real ones that they answer, so that both are left out together.

    Raises:
        ValueError: fewer than two groups, or a set with too few members to leave two without a group.
    """
    if groups < 2 or min(len(features), len(other)) < max(4, groups):
        raise ValueError(f"{groups} groups need at least {max(4, groups)} members: {len(features)}, {len(other)}")
    keep = zip(_without_groups(len(features), groups), _without_groups(len(other), groups), strict=True)
    return Estimate(kid(features, other), tuple(kid(features[a], other[b]) for a, b in keep))


def _without_groups(n: int, groups: int) -> list[Tensor]:
    parts = torch.arange(n).tensor_split(groups)
    return [torch.cat([part for part in parts if part is not left_out]) for left_out in parts]


def _mean_within(x: Tensor) -> float:
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"a set needs features [n, d] of at least two members, got {list(x.shape)}")
    itself = float(((x.square().sum(1) / x.shape[1] + 1) ** 3).sum(dtype=torch.float64))
    return (_total(x, x) - itself) / (len(x) * (len(x) - 1))


def _total(x: Tensor, y: Tensor) -> float:
    """The sum of k over all pairs; in double precision, as the distance is a small difference of large sums."""
    from torchmetrics.image.kid import poly_kernel  # models load and train without it, too

    return sum(float(poly_kernel(chunk, y).sum(dtype=torch.float64)) for chunk in x.split(_CHUNK))
