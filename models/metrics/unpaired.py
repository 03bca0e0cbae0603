"""How near translations come to true pairs that no training saw, and whether samples are copies of training images.

``score_pairs`` gives the figures of a set of translations. The untranslated source images in their place (the identity)
are the figures to beat: where both domains are drawn alike, these are strong.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.metrics.effnet import Features
from models.metrics.kid import kid_with_error
from models.metrics.pictures import l1, psnr

_CHUNK = 256  # rows whose distances are held at once
_ROUNDING = 1e-10  # of sums of squares in double precision, with room to spare; a grey level is far above it

PROTOCOL: dict[str, str] = {
    "l1": "mean absolute difference to the true partner, images in [-1, 1]; mean of {n} pairs",
    "psnr": "peak signal-to-noise ratio in dB to the true partner, 8-bit images scaled to [0, 1], at most 100 dB an "
    "image; mean of {n} pairs",
    "kid": "KID (EffNet-Lite0): unbiased kernel distance (degree 3) to the {n} true images, in 1,280 features of "
    "images resized to 128 pixels; lower is better, not comparable with Inception figures",
    "kid_std_error": "its standard error over the images, by a jackknife of ten groups",
    "top1_pixels": "share of {n} images whose nearest true image, by pixels, is their true partner; chance is 1/{n}",
    "top1_features": "the same by the features of the kernel distance",
}


def score_pairs(images: Tensor, truth: Tensor, features: Features) -> dict[str, float]:
    """The figures of ``PROTOCOL`` for one answer to each held-out source image.

    Args:
        images: ``[n, C, H, W]``, of which [-1, 1] counts.
        truth: the true partners, of the same shape and order.
        features: see :class:`models.metrics.effnet.EffNetFeatures`.

    Raises:
        ValueError: shapes that don't fit, numbers that are not finite, or fewer than ten images.
    """
    seen = images.clamp(-1, 1)
    fidelity = {"l1": float(l1(seen, truth).mean()), "psnr": float(psnr(seen, truth).mean())}
    mine, true = features(seen), features(truth)
    distance = kid_with_error(mine, true)
    return fidelity | {
        "kid": distance.value,
        "kid_std_error": distance.std_error,
        "top1_pixels": retrieval(seen, truth),
        "top1_features": retrieval(mine, true),
    }


def protocol(n: int) -> dict[str, str]:
    """A sentence for each figure of :func:`score_pairs` of n pairs."""
    return {name: text.format(n=f"{n:,}") for name, text in PROTOCOL.items()}


def retrieval(answers: Tensor, truth: Tensor) -> float:
    """The share of answers whose nearest true one, by Euclidean distance, is their own.

    An answer that is equally near to k true ones, its own among them, counts 1/k: equal true images are not told apart.

    Args:
        answers: ``[n, ...]``, pixels or features.
        truth: ``[n, ...]``, the true one of each in the same order.

    Raises:
        ValueError: the shapes differ, or there is nothing to compare.
    """
    if answers.shape != truth.shape or answers.ndim < 2 or 0 in answers.shape:
        raise ValueError(f"answers and truth must have one shape [n, ...]: {list(answers.shape)}, {list(truth.shape)}")
    given, true = answers.flatten(1).double(), truth.flatten(1).double()
    norms = true.square().sum(1)
    squares = given.square().sum(1, keepdim=True) + norms - 2 * given @ true.T
    # What differs by less than the rounding of these sums is equally near.
    nearest = squares <= squares.min(1, keepdim=True).values + _ROUNDING * norms.max()
    return float((nearest.diagonal() / nearest.sum(1)).mean(dtype=torch.float64))


def nearest_distances(images: Tensor, others: Tensor) -> Tensor:
    """The distance of each image to the nearest of the others, as root mean square difference per pixel and channel.

    Args:
        images: ``[n, ...]``, pixels or features.
        others: ``[m, ...]``, m may be tens of thousands.

    Returns:
        ``[n]``, float64.

    Raises:
        ValueError: the shapes differ beyond the first dimension, or there is nothing to compare.
    """
    if images.shape[1:] != others.shape[1:] or 0 in images.shape or 0 in others.shape:
        raise ValueError(f"sets must agree but in number and not be empty: {list(images.shape)}, {list(others.shape)}")
    flat, all_others = images.flatten(1).float(), others.flatten(1).float()
    found = []
    for part in flat.split(_CHUNK):
        # Products find the nearest fast but are off where distances are small, so its distance is computed again.
        nearest = all_others[torch.cdist(part, all_others).argmin(1)]
        found.append((part.double() - nearest.double()).square().mean(1).sqrt())
    return torch.cat(found)


@dataclass(frozen=True)
class Novelty:
    """How far samples are from the training images, beside how far held-out images are: medians over the images.

    Samples that copy training images are much nearer to them than held-out images are.
    """

    samples: float
    held_out: float

    @property
    def ratio(self) -> float:
        """Below 1 if samples are nearer to the training images than held-out images are."""
        return self.samples / self.held_out


def novelty(samples: Tensor, held_out: Tensor, train: Tensor) -> Novelty:
    """Medians of :func:`nearest_distances` to the training images, of samples and of held-out images.

    Args:
        samples: ``[n, ...]``.
        held_out: ``[k, ...]`` real images that are not in ``train``.
        train: ``[m, ...]``.
    """
    near, far = (float(nearest_distances(images, train).median()) for images in (samples, held_out))
    return Novelty(near, far)


@dataclass(frozen=True)
class SaliencyMass:
    """Where a saliency map lies.

    Args:
        mass: the share of a map's sum that lies on changed pixels, mean over images.
        area: the share of pixels that are changed: the mass of a map that is the same everywhere.
        images: how many images count.
    """

    mass: float
    area: float
    images: int


def saliency_mass(saliency: Tensor, source: Tensor, target: Tensor, threshold: float = 0.1) -> SaliencyMass:
    """How much of the saliency falls where source and true target differ, rather than on common ground.

    A pixel is changed if its channels differ by more than ``threshold`` on average. Images without a changed pixel, or
    whose map is 0 everywhere, don't count.

    Args:
        saliency: ``[n, 1, H, W]``, not negative.
        source: ``[n, C, H, W]`` in [-1, 1].
        target: the true partners, of the same shape.
        threshold: in units of the range [-1, 1] (0 to 2).

    Raises:
        ValueError: shapes that don't fit, a map that is negative or not finite, or no image that counts.
    """
    expected = (len(source), 1, *source.shape[2:])
    if source.ndim != 4 or source.shape != target.shape or saliency.shape != expected:
        shapes = [list(x.shape) for x in (saliency, source, target)]
        raise ValueError(f"maps [n, 1, H, W], source and target [n, C, H, W] are needed, got {shapes}")
    if not saliency.isfinite().all() or (saliency < 0).any():
        raise ValueError("saliency maps must be finite and not negative")
    changed = ((source.double() - target.double()).abs().mean(1) > threshold).flatten(1).double()
    maps = saliency.double().flatten(1)
    counts = changed.any(1) & (maps.sum(1) > 0)
    if not counts.any():
        raise ValueError("no image has both a changed pixel and a map that is not 0")
    maps, changed = maps[counts], changed[counts]
    shares = (maps * changed).sum(1) / maps.sum(1)
    return SaliencyMass(float(shares.mean()), float(changed.mean()), int(counts.sum()))
