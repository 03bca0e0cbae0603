"""Small scores of generated images: how sure a classifier is, how they differ, how near they are to their class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Score:
    """A mean over splits and the standard deviation over them (0 for one split)."""

    mean: float
    std: float


def classifier_score(probabilities: Tensor, splits: int = 10, seed: int = 0) -> Score:
    r"""The inception score with a classifier of the product's own: never to be compared with Inception figures.

    .. math:: \exp \, E_x \, KL(p(y | x) \, \| \, p(y))

    From 1 (every image looks like the same mixture) to the number of classes (sure of each, and all equally often).

    Args:
        probabilities: p(class given image), ``[n, classes]``.
        splits: the images are shuffled with ``seed`` and cut into this many parts, each scored by itself.

    Raises:
        ValueError: fewer images than splits, or no split.
    """
    if not 1 <= splits <= len(probabilities):
        raise ValueError(f"splits must lie in 1..{len(probabilities)}, the number of images, got {splits}")
    order = torch.randperm(len(probabilities), generator=torch.Generator().manual_seed(seed))
    scores = []
    for part in probabilities.double()[order].tensor_split(splits):
        marginal = part.mean(0, keepdim=True)
        divergence = (torch.xlogy(part, part) - torch.xlogy(part, marginal)).sum(1)
        scores.append(divergence.mean().exp())
    values = torch.stack(scores)
    return Score(mean=float(values.mean()), std=float(values.std(correction=0)))


def diversity(images: Tensor) -> float:
    """The mean absolute difference per pixel over all pairs of images ``[n, ...]``, n >= 2; 0 if all are the same."""
    if len(images) < 2:
        raise ValueError(f"diversity needs at least two images, got {len(images)}")
    flat = images.flatten(1).double()
    return float(torch.pdist(flat, p=1).mean() / flat.shape[1])


def label_diversity(images: Tensor, labels: Tensor) -> float:
    """:func:`diversity` within each label, averaged over labels, so that differences between classes don't count.

    Labels with a single image don't count either; if all are so, a ``ValueError`` says it.
    """
    groups = [images[labels == label] for label in labels.unique()]
    values = [diversity(group) for group in groups if len(group) > 1]
    if not values:
        raise ValueError("no label has two images, so there is no diversity to measure")
    return sum(values) / len(values)


def same_label_mse(images: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor) -> float:
    r"""The mean squared difference per pixel between an image and another set's images of the same label.

    Averaged over all pairs of a label, then over the images. With all pairs it needs no sampling and no double loop:
    :math:`E \|x - y\|^2 = E \|x\|^2 + E \|y\|^2 - 2 \, E x \cdot E y`. Far below the value of two sets of real ones it
    hints at images that are all alike (mode collapse).

    Args:
        images: ``[n, ...]`` with labels ``[n]``.
        others: ``[m, ...]`` with labels ``[m]``.

    Raises:
        ValueError: ``others`` has no image of some label.
    """
    x, y = images.flatten(1).double(), others.flatten(1).double()
    total = 0.0
    for label in labels.unique():
        mine, theirs = x[labels == label], y[other_labels == label]
        if len(theirs) == 0:
            raise ValueError(f"the other set has no image with the label {int(label)}")
        squares = mine.square().sum(1).mean() + theirs.square().sum(1).mean()
        total += len(mine) * float(squares - 2 * mine.mean(0) @ theirs.mean(0))
    return total / x.numel()
