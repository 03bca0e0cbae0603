"""How well a model answers an image: its proposals and refined pictures, judged alike from the same seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from models.core.noise import mix
from models.data.images import ImageData, fit, to_float, to_uint8
from models.metrics.effnet import Features
from models.metrics.kid import Estimate, kid_with_error
from models.metrics.pictures import diversity, l1, psnr, ssim

PictureSampler: TypeAlias = Callable[[Tensor, Tensor | None, int, int, bool], Tensor]
"""(conditions ``[n, Cc, H, W]`` in [-1, 1], masks ``[n, 1, H, W]`` with 1 = hidden or None, seed, results of each,
whether to refine) -> pictures ``[n, results, C, H, W]``, of which [-1, 1] counts."""

_CHUNK = 64  # conditions that are answered at once

PROTOCOL: dict[str, str] = {
    "psnr": "peak signal-to-noise ratio in dB of the first result{where}, 8-bit images scaled to [0, 1], at most "
    "100 dB an image; mean of {n} test images",
    "ssim": "structural similarity of the first result{where}, Gaussian window of 11x11 pixels and deviation 1.5; mean "
    "of {n} test images",
    "l1": "mean absolute difference of the first result{where}, images in [-1, 1]; mean of {n} test images",
    "kid": "KID (EffNet-Lite0): unbiased kernel distance (degree 3) of the first results{whole} to the {n} true "
    "images, in 1,280 features of images resized to 128 pixels; lower is better, not comparable with Inception "
    "figures{real}",
    "kid_std_error": "its standard error over the images, by a jackknife of ten groups",
    "kid_gain": "the proposals' KID less that of the refined pictures: positive if refinement helps",
    "kid_gain_std_error": "its standard error, smaller than those of the two as both answer the same images",
    "diversity": "mean absolute difference{where} over all pairs of the {results} results of one condition, images in "
    "[-1, 1]; mean of {n} conditions",
}


@dataclass(frozen=True, eq=False)
class _Bench:
    """What every set of answers is measured with."""

    truth: Tensor  # the true images, [-1, 1]
    masks: Tensor | None
    features: Features
    true_features: Tensor

    def compare(self, images: Tensor, distance: Estimate) -> dict[str, float]:
        """One answer to each condition against its true image, and all of them against all true images."""
        return {
            "psnr": float(psnr(images, self.truth, self.masks).mean()),
            "ssim": float(ssim(images, self.truth, self.masks).mean()),
            "l1": float(l1(images, self.truth, self.masks).mean()),
            **_distance("kid", distance),
        }

    def distance(self, images: Tensor) -> Estimate:
        return kid_with_error(self.features(images), self.true_features)


def evaluate_pictures(
    sample: PictureSampler,
    data: ImageData,
    *,
    masks: Tensor | None,
    results: int = 4,
    features: Features,
    others: ImageData | None = None,
    seed: int = 1,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Measure a model's proposals and its refined pictures.

    Args:
        sample: the model; it is called with the same conditions and seeds once without and once with refinement.
        data: the test images. With ``masks`` the model is given them with their hidden pixels at 0 (inpainting),
            without it is given their conditions (translation).
        masks: ``[n, 1, H, W]``, 1 where a pixel is hidden, for each image of ``data``.
        results: how many answers to each condition; 1 gives no diversity.
        features: see :class:`models.metrics.effnet.EffNetFeatures`.
        others: other real images (the training set), for the row ``real``.
        seed: all sampling seeds derive from it.
        progress: is told what is being done.

    Returns:
        Plain numbers that JSON can hold, under ``proposal`` and ``refined``; for comparison under ``copy`` (the
        condition itself as the answer) or ``mean_fill`` (the hole in the mean colour of the visible pixels), and under
        ``real`` (the kernel distance of ``others``); ``images`` counts the test images and ``protocol`` has a sentence
        for each number.

    Raises:
        ValueError: data, masks or the number of results don't fit, or the model gives pictures of a wrong shape, not
            finite, or with other visible pixels than it was given.
    """
    conditions = _conditions(data, masks)
    if results < 1:
        raise ValueError(f"at least one result of each condition is needed, got {results}")
    progress(f"measuring {len(data):,} test images")
    truth = to_float(data.images)
    bench = _Bench(truth, masks, features, features(truth))
    report: dict[str, Any] = {"images": len(data), "protocol": _protocol(len(data), results, others, masks is not None)}
    distances: dict[str, Estimate] = {}
    for name, refine in (("proposal", False), ("refined", True)):
        progress(f"{name}: {results} results for each of {len(data):,} conditions")
        pictures = _draw(sample, conditions, masks, seed, results, refine, data.shape)
        distances[name] = bench.distance(pictures[:, 0])
        report[name] = bench.compare(pictures[:, 0], distances[name])
        if results > 1:
            report[name]["diversity"] = diversity(pictures, masks)
    report["refined"] |= _distance("kid_gain", distances["proposal"] - distances["refined"])
    progress("answers that need no model, for comparison")
    name, simple = ("copy", _copy(data)) if masks is None else ("mean_fill", _mean_fill(conditions, masks))
    report[name] = bench.compare(simple, bench.distance(simple))
    if others is not None:
        report["real"] = _distance("kid", bench.distance(to_float(others.images)))
    return report


def _distance(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_std_error": estimate.std_error}


def _conditions(data: ImageData, masks: Tensor | None) -> Tensor:
    """What the model is given, as floats."""
    if masks is None:
        if data.conditions is None:
            raise ValueError(f"{data.name} has no condition images to translate, and no masks were given to complete")
        return to_float(data.conditions)
    expected = (len(data), 1, *data.shape[1:])
    if tuple(masks.shape) != expected:
        raise ValueError(f"the masks must be {list(expected)}, one an image, got {list(masks.shape)}")
    if not masks.flatten(1).any(1).all():
        raise ValueError("every mask must hide at least one pixel")
    return torch.where(masks > 0, torch.zeros(()), to_float(data.images))


def _draw(
    sample: PictureSampler,
    conditions: Tensor,
    masks: Tensor | None,
    seed: int,
    results: int,
    refine: bool,
    shape: tuple[int, int, int],
) -> Tensor:
    parts = []
    for number, at in enumerate(torch.arange(len(conditions)).split(_CHUNK)):
        hidden = None if masks is None else masks[at]
        pictures = sample(conditions[at], hidden, mix(seed, number) >> 32, results, refine).detach().float().cpu()
        expected = [len(at), results, *shape]
        if list(pictures.shape) != expected:
            raise ValueError(f"the model gave pictures {list(pictures.shape)}, not {expected}")
        if not pictures.isfinite().all():
            raise ValueError("the model gave pictures with pixels that are not finite")
        if hidden is not None:
            _check_visible(pictures, conditions[at], hidden)
        parts.append(pictures.clamp(-1, 1))
    return torch.cat(parts)


def _check_visible(pictures: Tensor, visible: Tensor, hidden: Tensor) -> None:
    """The pixels that were shown must still be there: otherwise the distance of whole pictures would mean little."""
    changed = (to_uint8(pictures) != to_uint8(visible)[:, None]) & (hidden == 0)[:, None]
    if changed.any():
        raise ValueError(f"the model changed visible pixels in {int(changed.flatten(1).any(1).sum())} pictures")


def _copy(data: ImageData) -> Tensor:
    assert data.conditions is not None
    return to_float(fit(data.conditions, channels=data.shape[0]))


def _mean_fill(visible: Tensor, masks: Tensor) -> Tensor:
    """The hole in the mean colour of each image's visible pixels; grey where nothing is visible."""
    shown = (masks == 0).float()
    mean = (visible * shown).sum((2, 3), keepdim=True) / shown.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(masks > 0, mean, visible)


def _protocol(n: int, results: int, others: ImageData | None, holes: bool) -> dict[str, str]:
    words = {
        "where": " inside the hole" if holes else "",
        "whole": ", completed," if holes else "",
        "n": f"{n:,}",
        "results": str(results),
        "real": f"; of real: {len(others):,} training images in the place of results" if others else "",
    }
    return {name: text.format(**words) for name, text in PROTOCOL.items() if results > 1 or name != "diversity"}
