"""The figures of a model that makes images from noise alone, each by one of its own tasks with the card's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.core.model import LoadedModel
from models.data.holes import centred_square
from models.data.images import ImageData, to_float, to_uint8
from models.evaluation.jobs import pictures, run_jobs
from models.metrics.classifier import Classifier
from models.metrics.effnet import Features
from models.metrics.kid import kid_with_error
from models.metrics.outliers import comparison_sets, detection
from models.metrics.pictures import psnr
from models.metrics.unpaired import novelty

SEED = 1
REFERENCE = 5_000
"""At most so many test images are what generated ones are held against."""
PICTURES = 256
"""At most so many test images are completed and cleaned."""
RESULTS = 4
"""Completions of each."""
NOISE = 0.2
"""The standard deviation that denoising begins with, images in [-1, 1]."""

_STEPS = (0, 2, 5, 10, 15, 20, 30)
_CHUNK = 50  # rows of a batch
_SCORED = 250  # the same where no chain runs


@dataclass(frozen=True, eq=False)
class EnergyBench:
    """A checkpoint with the data that it is measured against.

    Args:
        tasks: the defaults of each task of the card.
        classifier: the judge, where the data have labels.
        others: real images of other kinds by name, in [-1, 1], which the model's value should tell from its own.
    """

    model: LoadedModel
    tasks: Mapping[str, Mapping[str, Any]]
    train: ImageData
    valid: ImageData
    test: ImageData
    classifier: Classifier | None
    others: Mapping[str, Tensor]


def generation(bench: EnergyBench, features: Features, n: int) -> dict[str, Any]:
    """n images beside as many real ones: distances, contrast, novelty, and the classes that a judge sees."""
    own = [{"n": len(part)} for part in torch.arange(n).split(_CHUNK)]
    outputs = run_jobs(bench.model, "generate", bench.tasks["generate"], own, seed=SEED, at_once=1)
    made, test = torch.cat([pictures(output) for output in outputs]), _some(bench.test, REFERENCE)
    real, target = _some(bench.train, n), features(test)
    generated = {**_distance("kid", features(made), target), **_contrast(made)}
    floor = {**_distance("kid", features(real), target), **_contrast(to_float(bench.train.images))}
    near = novelty(made, test, to_float(bench.train.images))
    generated["train_distance"], floor["train_distance"] = near.samples, near.held_out
    if bench.classifier is not None:
        judge = bench.classifier
        seen = judge.features(test)
        generated |= _distance("kid_judge", judge.features(made), seen) | {"classes": _classes(judge, made)}
        floor |= _distance("kid_judge", judge.features(_some(bench.valid, n)), seen) | {
            "classes": _classes(judge, test)
        }
    return {"images": n, "generated": generated, "real": floor}


def inpainting(bench: EnergyBench) -> dict[str, Any]:
    """Completions of the centred hole beside the mean training image in it."""
    truth = _some(bench.test, PICTURES)
    mask = centred_square(truth.shape[-1]).float()[None]
    own = [{"n": RESULTS, "image": torch.where(mask > 0, torch.zeros(()), image), "mask": mask} for image in truth]
    outputs = run_jobs(bench.model, "inpaint", bench.tasks["inpaint"], own, seed=SEED, at_once=_CHUNK // RESULTS)
    results = torch.stack([pictures(output) for output in outputs])
    mean_image = to_float(bench.train.images).mean(0)
    filled = torch.where(mask > 0, mean_image, truth)
    hidden = mask[0] > 0
    return {
        "images": len(truth),
        "completed": {
            **_in_hole(results.flatten(0, 1), truth.repeat_interleave(RESULTS, 0), mask),
            "std": float(results.var(1)[..., hidden].mean().sqrt()),
        },
        "mean_fill": _in_hole(filled, truth, mask),
    }


def denoising(bench: EnergyBench) -> dict[str, Any]:
    """PSNR of noisy images and of what is left of the noise after so many steps."""
    truth = _some(bench.test, PICTURES)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(SEED))
    noisy = to_float(to_uint8(truth + NOISE * noise))
    values: dict[int, float] = {}
    for steps in _STEPS:
        defaults = {**bench.tasks["denoise"], "n": 1, "steps": steps}
        own = [{"image": image} for image in noisy]
        outputs = run_jobs(bench.model, "denoise", defaults, own, seed=SEED, at_once=_CHUNK)
        values[steps] = float(psnr(torch.cat([pictures(output) for output in outputs]), truth).mean())
    best = max(values, key=lambda steps: values[steps])
    return {
        "images": len(truth),
        "input": float(psnr(noisy, truth).mean()),
        "psnr": {str(steps): value for steps, value in values.items()},
        "best_steps": best,
        "interior_optimum": best not in (_STEPS[0], _STEPS[-1]),
    }


def separation(bench: EnergyBench, n: int, by: str = "f") -> dict[str, float]:
    """How well a number of ``score`` tells test images from those of other kinds, by kind: AUROC.

    Args:
        bench: what is measured.
        n: images of each kind.
        by: ``f``, the value; or ``slope``, minus the norm of its gradient.
    """
    sign = -1.0 if by == "slope" else 1.0

    def number(images: Tensor) -> Tensor:
        own = [{"image": image} for image in images]
        outputs = run_jobs(bench.model, "score", bench.tasks["score"], own, seed=SEED, at_once=_SCORED)
        return torch.tensor([sign * float(output.numbers[by][0]) for output in outputs])

    images = _some(bench.test, n)
    return detection(number, images, comparison_sets(images, n, SEED, bench.others))


def _some(data: ImageData, n: int) -> Tensor:
    """At most n images in [-1, 1], chosen at random: data may be sorted by class."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))
    return to_float(data.images[order[:n]])


def _distance(name: str, mine: Tensor, target: Tensor) -> dict[str, Any]:
    distance = kid_with_error(mine, target)
    return {name: distance.value, f"{name}_std_error": distance.std_error}


def _contrast(images: Tensor) -> dict[str, float]:
    return {"mean": float(images.mean()), "std": float(images.std())}


def _classes(judge: Classifier, images: Tensor) -> dict[str, float]:
    counts = torch.bincount(judge.predict(images), minlength=len(judge.classes))
    return dict(zip(judge.classes, (counts.double() / len(images)).tolist(), strict=True))


def _in_hole(images: Tensor, truth: Tensor, mask: Tensor) -> dict[str, float]:
    hidden = mask[0] > 0
    return {
        "mse": float((images - truth).square()[..., hidden].mean()),
        "psnr": float(psnr(images, truth, mask.expand(len(truth), -1, -1, -1)).mean()),
    }
