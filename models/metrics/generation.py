"""How well a class-conditional model generates: its proposals and refined images, judged alike from the same seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from models.core.noise import mix
from models.data.images import ImageData, to_float
from models.metrics.classifier import Classifier
from models.metrics.kid import Reference, kid, reference
from models.metrics.parzen import parzen
from models.metrics.scores import classifier_score, label_diversity, same_label_mse

Sampler: TypeAlias = Callable[[Tensor, int, bool], Tensor]
"""(labels int64 ``[n]``, seed, whether to refine) -> images ``[n, C, H, W]``, of which [-1, 1] counts."""

_CHUNK = 500  # images that are asked for at once
_FEW = 2_000  # test images of the quick kernel distance, which published trials report
_HELD_OUT = 1_000  # images that choose the Parzen bandwidth
_SPLITS = 10

PROTOCOL: dict[str, str] = {
    "accuracy": "share of images, {per_class} a class, in which an independently trained classifier sees "
    "the label asked for",
    "accuracy_per_class": "the same for each class by itself",
    "kid": "unbiased kernel distance (degree 3) in the classifier's features, the same images against the first {few} "
    "test images; lower is better, comparable only with the same classifier",
    "kid_full": "the same against all {test} test images",
    "same_label_mse": "mean squared difference per pixel, images in [-1, 1], over all pairs of such an image and a "
    "test image of the same label; near the value of real images is best",
    "diversity": "mean absolute difference per pixel over all pairs of images of one label, averaged over labels",
    "parzen_log_likelihood": "mean log-likelihood of {test} test images, in nats, under Gaussian windows on {samples} "
    "generated images of uniform labels; images clipped to [-1, 1] and mapped to [0, 1]; higher is better",
    "parzen_std_error": "its standard error over the test images",
    "parzen_bandwidth": "the bandwidth of ten from 0.1 to 1 that is best for {held_out} held-out images",
    "classifier_score": "exp of the mean KL(p(y given x) || p(y)) of the classifier over the {samples} images, mean of "
    "{splits} splits; 1 to the number of classes; not comparable with Inception scores",
    "classifier_score_std": "its standard deviation over the splits",
}


@dataclass(frozen=True, eq=False)
class _Bench:
    """What every set of images is measured with."""

    classifier: Classifier
    images: Tensor  # the test images, [-1, 1]
    labels: Tensor
    few: Reference
    full: Reference

    def compare(self, images: Tensor, labels: Tensor) -> dict[str, Any]:
        """The distances that need a few images of each class."""
        features = self.classifier.features(images)
        return {
            "kid": kid(features, self.few),
            "kid_full": kid(features, self.full),
            "same_label_mse": same_label_mse(images, labels, self.images, self.labels),
            "diversity": label_diversity(images, labels),
        }


def evaluate_generation(
    sample: Sampler,
    *,
    classifier: Classifier,
    valid: ImageData,
    test: ImageData,
    per_class: int = 100,
    parzen_samples: int = 10_000,
    seed: int = 1,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Measure a model's proposals and its refined images.

    Args:
        sample: the model; it is called with the same labels and seeds once without and once with refinement.
        classifier: trained on neither ``valid`` nor ``test``.
        valid: held-out images; they choose the Parzen bandwidth and stand for generated ones in the row ``real``.
        test: the images that the model is held against.
        per_class: images of each class for all but Parzen windows and classifier score.
        parzen_samples: images for these two.
        seed: all sampling seeds derive from it.
        progress: is told what is being done.

    Returns:
        Plain numbers that JSON can hold, under ``proposal``, ``refined`` and ``real`` (the held-out images in the place
        of generated ones; accuracy and classifier score are of the test images), and under ``protocol`` a sentence for
        each number.

    Raises:
        ValueError: the data don't fit the classifier, or the model gives images of a wrong shape or not finite.
    """
    _check(classifier, valid, test, per_class, parzen_samples)
    progress("measuring the test images")
    bench = _bench(classifier, test)
    report: dict[str, Any] = {"protocol": _protocol(len(test), min(_HELD_OUT, len(valid)), per_class, parzen_samples)}
    classes, held_out = len(classifier.classes), to_float(valid.images[:_HELD_OUT])
    few = torch.arange(classes).repeat_interleave(per_class)
    many = torch.arange(parzen_samples) % classes
    for name, refine in (("proposal", False), ("refined", True)):
        progress(f"{name}: generating {len(few):,} images, {per_class} a class")
        images = _draw(sample, few, mix(seed, 0), refine, test.shape)
        row = _accuracies(classifier, images, few) | bench.compare(images, few)
        progress(f"{name}: generating {parzen_samples:,} images for Parzen windows")
        images = _draw(sample, many, mix(seed, 1), refine, test.shape)
        windows = parzen(images, held_out, bench.images)
        row["parzen_log_likelihood"] = windows.mean
        row["parzen_std_error"] = windows.std_error
        row["parzen_bandwidth"] = windows.bandwidth
        report[name] = row | _score(classifier, images)
    progress("real images, for comparison")
    report["real"] = _real(bench, valid, per_class)
    return report


def _check(classifier: Classifier, valid: ImageData, test: ImageData, per_class: int, parzen_samples: int) -> None:
    expected = (classifier.channels, classifier.size, classifier.size)
    for data in (valid, test):
        if data.labels is None or data.classes != classifier.classes or data.shape != expected:
            raise ValueError(
                f"{data.name} has {data.shape} pixels and {len(data.classes)} classes; the classifier needs labelled "
                f"images of {expected} pixels and its {len(classifier.classes)} classes"
            )
    if test.labels is not None and len(test.labels.unique()) != len(classifier.classes):
        raise ValueError(f"{test.name} has no image of some of the {len(classifier.classes)} classes")
    if len(valid) <= len(classifier.classes):
        raise ValueError(f"{valid.name} has {len(valid)} images; hold out more of them than there are classes")
    if per_class < 2 or parzen_samples < _SPLITS:
        raise ValueError(f"at least 2 images a class and {_SPLITS} samples are needed: {per_class}, {parzen_samples}")


def _bench(classifier: Classifier, test: ImageData) -> _Bench:
    assert test.labels is not None
    images = to_float(test.images)
    features = classifier.features(images)
    return _Bench(classifier, images, test.labels, few=reference(features[:_FEW]), full=reference(features))


def _draw(sample: Sampler, labels: Tensor, seed: int, refine: bool, shape: tuple[int, int, int]) -> Tensor:
    parts = []
    for number, chunk in enumerate(labels.split(_CHUNK)):
        images = sample(chunk, mix(seed, number) >> 32, refine).detach().float().cpu()
        if tuple(images.shape) != (len(chunk), *shape):
            raise ValueError(f"the model gave images {list(images.shape)}, not {[len(chunk), *shape]}")
        if not torch.isfinite(images).all():
            raise ValueError("the model gave images with pixels that are not finite")
        parts.append(images.clamp(-1, 1))
    return torch.cat(parts)


def _accuracies(classifier: Classifier, images: Tensor, labels: Tensor) -> dict[str, Any]:
    right = (classifier.predict(images) == labels).double()
    per_class = {name: float(right[labels == k].mean()) for k, name in enumerate(classifier.classes)}
    return {"accuracy": float(right.mean()), "accuracy_per_class": per_class}


def _score(classifier: Classifier, images: Tensor) -> dict[str, float]:
    score = classifier_score(classifier.probabilities(images), _SPLITS)
    return {"classifier_score": score.mean, "classifier_score_std": score.std}


def _real(bench: _Bench, valid: ImageData, per_class: int) -> dict[str, Any]:
    """Held-out images in the place of generated ones: what a perfect model would score."""
    assert valid.labels is not None
    at = torch.cat([torch.nonzero(valid.labels == k)[:per_class, 0] for k in range(len(valid.classes))])
    return (
        _accuracies(bench.classifier, bench.images, bench.labels)
        | bench.compare(to_float(valid.images[at]), valid.labels[at])
        | _score(bench.classifier, bench.images)
    )


def _protocol(test: int, held_out: int, per_class: int, samples: int) -> dict[str, str]:
    numbers = {"few": min(_FEW, test), "test": test, "held_out": held_out, "per_class": per_class}
    return {name: text.format(**numbers, samples=samples, splits=_SPLITS) for name, text in PROTOCOL.items()}
