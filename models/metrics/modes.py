"""Several answers to one condition: how different they are, and how near the best of them is."""

from __future__ import annotations

import torch
from torch import Tensor

_SAMPLES, _KEPT = 20, 10


def sorted_out_diversity(samples: Tensor) -> float:
    """The diversity of 20 samples of one condition, as Appendix 3.4 of the cGML paper measures it.

    s_m is the sample whose mean is nearest to the mean of all; of the 10 samples that differ most from it (mean
    absolute difference), the standard deviation of each number, averaged. It is 0 for two modes of equal weight, for
    the 10 samples are then of one; so it says something only beside other measures.

    Args:
        samples: ``[20, ...]`` in [0, 1].

    Raises:
        ValueError: another number of samples.
    """
    if len(samples) != _SAMPLES:
        raise ValueError(f"the measure is defined for {_SAMPLES} samples, got {len(samples)}")
    flat = samples.flatten(1).double()
    means = flat.mean(1)
    middle = int((means - means.mean()).abs().argmin())
    far = (flat - flat[middle]).abs().mean(1)
    # A stable order: of equal distances the sample that came first.
    kept = far.argsort(descending=True, stable=True)[:_KEPT]
    return float(flat[kept].std(0, correction=0).mean())


def nearest(errors: Tensor) -> tuple[Tensor, Tensor]:
    """The error of each result to the nearest mode and which one that is, from errors ``[modes, ...]``."""
    found = errors.min(0)
    return found.values, found.indices


def shares(modes: Tensor, count: int) -> list[float]:
    """The share of results in each mode."""
    return [float((modes == k).double().mean()) for k in range(count)]


def of_several(errors: Tensor) -> dict[str, float]:
    """``first``, ``mean`` and ``best`` of n results of each condition, ``[conditions, n]``, averaged over these."""
    return {
        "first": float(errors[:, 0].mean()),
        "mean": float(errors.mean()),
        "best": float(errors.amin(1).mean()),
    }


def greatest_of_several(values: Tensor) -> dict[str, float]:
    """The same of values of which the greatest is the best."""
    return {name: -value for name, value in of_several(-values).items()}


def as_answers(results: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Results ``[conditions, n, C, H, W]`` and their targets ``[conditions, C, H, W]`` as two long batches."""
    n = results.shape[1]
    return results.flatten(0, 1), torch.repeat_interleave(targets, n, 0)
