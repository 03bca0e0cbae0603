"""How well a score tells images of the training's kind from others: AUROC, and the sets to tell them from.

The sets follow the protocol of energy-based models (CF-EBM, Table 4): noise, plain colours, mixtures of two images, and
real images of another kind. Each is a pure function of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from models.core.noise import mix

_CHUNK = 500  # images that are scored at once


def auroc(inside: Tensor, outside: Tensor) -> float:
    r"""The area under the ROC curve, with scores of in-distribution images as positives:

    .. math:: P(s_\text{in} > s_\text{out}) + \tfrac12 P(s_\text{in} = s_\text{out})

    Counted over all pairs, so it depends on the order of the scores alone. (Library versions take scores for
    probabilities and squash what is not in [0, 1], which ties large scores.)

    Args:
        inside: scores ``[m]``, higher for images of the training's kind.
        outside: scores ``[n]`` of other images.

    Returns:
        From 0 to 1; .5 for scores that tell nothing.

    Raises:
        ValueError: another shape, no score, or one that is NaN.
    """
    for scores in (inside, outside):
        if scores.ndim != 1 or len(scores) == 0 or scores.isnan().any():
            raise ValueError(f"AUROC needs scores [n], at least one and none of them NaN, got {list(scores.shape)}")
    dtype = torch.promote_types(inside.dtype, outside.dtype)
    ranked, scores = outside.to(dtype).sort().values, inside.to(dtype)
    below = torch.searchsorted(ranked, scores, right=False)
    not_above = torch.searchsorted(ranked, scores, right=True)
    return float((below + not_above).sum(dtype=torch.float64) / (2 * len(scores) * len(ranked)))


def uniform(n: int, channels: int, size: int, seed: int) -> Tensor:
    """Noise: every pixel from U(-1, 1). ``[n, channels, size, size]``."""
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def constant(n: int, channels: int, size: int, seed: int) -> Tensor:
    """Plain images, each of a colour of its own from U(-1, 1). ``[n, channels, size, size]``."""
    return uniform(n, channels, 1, seed).repeat(1, 1, size, size)


def grey(channels: int, size: int) -> Tensor:
    """The one plain image of middle grey, ``[1, channels, size, size]``: public code calls its copies "constant".

    AUROC against it is only the share of in-distribution images that score above one point.
    """
    return torch.zeros(1, channels, size, size)


def interpolated(images: Tensor, n: int, seed: int) -> Tensor:
    """The means of n pairs of different images of ``[m, ...]``, neighbours in a random order (n at most m).

    Raises:
        ValueError: fewer than two images, or fewer than n.
    """
    if len(images) < 2 or n > len(images):
        raise ValueError(f"{n} means of two images need at least {max(2, n)} images, got {len(images)}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return (images[order[:n]] + images[order.roll(-1)[:n]]) / 2


def comparison_sets(images: Tensor, n: int, seed: int, others: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The sets that in-distribution images are told from, by name: ``uniform``, ``constant``, ``grey``, ``interp``.

    Args:
        images: in-distribution images ``[m, C, S, S]`` in [-1, 1]; the sets take channels and size from them.
        n: images of each set (``grey`` has one, ``interp`` at most m).
        seed: of the random sets.
        others: real images of other kinds by name (``digits``), each ``[k, C, S, S]``; their first n are taken.

    Raises:
        ValueError: other shapes, or a name that is taken.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3] or n < 1:
        raise ValueError(f"comparison sets need square images [m, C, S, S] and n of at least 1: {list(images.shape)}")
    _, channels, size, _ = images.shape
    sets = {
        "uniform": uniform(n, channels, size, mix(seed, 0) >> 1),
        "constant": constant(n, channels, size, mix(seed, 1) >> 1),
        "grey": grey(channels, size),
        "interp": interpolated(images, min(n, len(images)), mix(seed, 2) >> 1),
    }
    for name, other in (others or {}).items():
        if name in sets or other.shape[1:] != images.shape[1:]:
            raise ValueError(f"{name} needs a name of its own and images {['k', *images.shape[1:]]}: {other.shape}")
        sets[name] = other[:n]
    return sets


def detection(score: Callable[[Tensor], Tensor], images: Tensor, sets: Mapping[str, Tensor]) -> dict[str, float]:
    """AUROC of in-distribution images against each of the sets, by name.

    Args:
        score: images ``[n, C, S, S]`` in [-1, 1] -> scores ``[n]``, higher for images of the training's kind; it is
            called with a few hundred at a time.
        images: in-distribution images that the training has not seen.

    Raises:
        ValueError: a score is NaN or of another shape.
    """

    def scores(batch: Tensor) -> Tensor:
        return torch.cat([score(part).detach().cpu() for part in batch.split(_CHUNK)])

    inside = scores(images)
    return {name: auroc(inside, scores(outside)) for name, outside in sets.items()}
