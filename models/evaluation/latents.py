"""Measuring latent inference: does a model find the latent of a real image, and draw other classes in its style?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.loop import run_together
from models.core.model import LoadedModel
from models.core.output import Output
from models.data.images import ImageData, to_float
from models.evaluation.jobs import job_of
from models.metrics.classifier import Classifier

PROTOCOL: dict[str, str] = {
    "residual": "mean squared difference per pixel between test images, in [-1, 1], and their drawings from the latent "
    "that was inferred with their label known",
    "class_mean_residual": "the same for the mean training image of the class in the place of the drawing",
    "target_accuracy": "share of restyled images, each test image in every class, in which the classifier sees the "
    "class asked for",
    "inferred_label_accuracy": "share of test images whose class is found when the label is not told",
    "inferred_residual": "the residual of their drawings in the class that was found",
    "images": "number of test images, as many of each class",
}


def evaluate_latents(
    model: LoadedModel,
    defaults: Mapping[str, Any],
    *,
    classifier: Classifier,
    train: ImageData,
    test: ImageData,
    per_class: int,
) -> dict[str, Any]:
    """Restyle test images in every class, and reconstruct them without their labels.

    Args:
        model: does ``restyle`` and ``reconstruct``.
        defaults: the card's, of ``restyle``.
        classifier: the judge; trained on neither ``test`` nor images of the model.
        train: its class means are what any drawing must beat.
        test: the first ``per_class`` images of each class are used.

    Returns:
        Plain numbers that JSON can hold, and under ``protocol`` a sentence for each.
    """
    assert train.labels is not None
    assert test.labels is not None
    places = torch.cat([torch.nonzero(test.labels == k)[:per_class, 0] for k in range(len(test.classes))])
    images, labels = to_float(test.images[places]), test.labels[places]
    names = [test.classes[k] for k in labels.tolist()]
    classes = [{name: 1.0} for name in test.classes]
    restyled = _run(model, "restyle", defaults, images, [{"label": {name: 1.0}, "labels": classes} for name in names])
    drawn = _run(model, "reconstruct", defaults, images, [{"label": None}] * len(images))
    means = torch.stack([to_float(train.images[train.labels == k]).mean(0) for k in range(len(test.classes))])
    seen = classifier.predict(torch.cat([_images(output) for output in restyled]))
    asked = torch.arange(len(classes)).repeat(len(images))
    inferred = [output.numbers["inferred_label"][0] for output in drawn]
    return {
        "residual": _mean([output.numbers["residual"][0] for output in restyled]),
        "class_mean_residual": float(F.mse_loss(means[labels], images)),
        "target_accuracy": float((seen == asked).double().mean()),
        "inferred_label_accuracy": _mean([a == b for a, b in zip(inferred, names, strict=True)]),
        "inferred_residual": _mean([output.numbers["residual"][0] for output in drawn]),
        "images": len(images),
        "protocol": PROTOCOL,
    }


def _run(
    model: LoadedModel, task: str, defaults: Mapping[str, Any], images: Tensor, own: list[dict[str, Any]]
) -> list[Output]:
    """One job an image, all of them as one batch."""
    jobs = [
        job_of(task, defaults, **fields, n=1, seed=k, image=image)
        for k, (image, fields) in enumerate(zip(images, own, strict=True))
    ]
    return run_together([model.start(task, job) for job in jobs])


def _images(output: Output) -> Tensor:
    assert output.images is not None  # the task makes images
    return output.images.cpu()


def _mean(values: list[Any]) -> float:
    return sum(values) / len(values)
