"""Measuring a checkpoint that makes images from noise alone: its own tasks answer, held-out images judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from models.core.model import LoadedModel
from models.data.catalog import load
from models.data.images import DataError, to_float
from models.evaluation.base import Evaluation, EvaluationError, Run
from models.evaluation.energy_figures import (
    NOISE,
    PICTURES,
    REFERENCE,
    RESULTS,
    SEED,
    EnergyBench,
    denoising,
    generation,
    inpainting,
    separation,
)
from models.evaluation.jobs import defaults_for
from models.evaluation.labels import splits_for
from models.metrics.classifier import accuracy
from models.metrics.classifier_store import load_or_train
from models.metrics.effnet import Features

LEAST = 10
"""Images that a kernel distance with an error needs of either kind."""

_OTHERS = ("digits", "fashion-mnist")

_SETS = {
    "uniform": "noise",
    "constant": "plain colours",
    "grey": "the one plain grey image",
    "interp": "means of two images of the test set",
}

PROTOCOL: dict[str, str] = {
    "generated": "{images} images by generate with the card's defaults; under 'real' stands what real images would "
    "score in their place",
    "kid": "KID (EffNet-Lite0): unbiased kernel distance (degree 3) to {reference} test images, in 1,280 features of "
    "images resized to 128 pixels; lower is better, not comparable with Inception figures; real: {real} "
    "training images",
    "kid_judge": "the same distance in the features of an independently trained classifier, comparable only with the "
    "same classifier; real: {held_out} validation images, which the classifier has not seen",
    "kid_std_error": "standard error of a distance over the images, by a jackknife of ten groups",
    "mean, std": "of all pixels in [-1, 1]; real: {train} training images",
    "train_distance": "root mean square difference per pixel to the nearest of {train} training images, median over "
    "the images; real: {reference} test images. Copies of training images would be much nearer than test images are",
    "classes": "share of the images in which the classifier sees each class; real: {reference} test images",
    "inpainting": "{pictures} test images whose centred square, a quarter of the area, is hidden, completed "
    f"{RESULTS} times each; mean_fill has the mean training image in the hole. mse: mean squared difference in the "
    "hole, images in [-1, 1]; psnr: in dB in the hole, 8-bit images scaled to [0, 1]; std: root mean variance in the "
    f"hole over the {RESULTS} completions of an image",
    "denoising": "{pictures} test images in [-1, 1] with Gaussian noise of standard deviation "
    f"{NOISE:g}, clipped to 8-bit images as a client would send them: PSNR in dB against the images themselves, by "
    "steps of denoise; interior_optimum: some number of steps is better than both none and the most",
    "detection": "AUROC of the value f of {scored} test images against images of other kinds ({kinds}); "
    "a half tells nothing",
    "detection_by_slope": "the same for minus the norm of the gradient of f",
    "seconds": "wall time of each part on the machine that measured",
}


def prepare(model: LoadedModel, run: Run) -> EnergyBench:
    """The model with its data, and where these have labels a classifier, which is trained once and then kept.

    Raises:
        DataError: the data can't be used, or are too few to measure anything.
    """
    train, valid, test = splits_for(model, run)
    if fewest := next((data for data in (train, valid, test) if len(data) < LEAST), None):
        raise DataError(f"{fewest.name} has {len(fewest)} images in one split; measuring needs {LEAST} in each")
    labelled = train.labels is not None
    classifier = load_or_train(run.root, run.data, train, progress=run.progress) if labelled else None
    size, channels = model.card["image"]["height"], model.card["image"]["channels"]
    others = {
        name: to_float(load(name, "test", run.root, image_size=size, channels=channels).images)
        for name in _OTHERS
        if name != run.data and (run.root / name).is_dir()
    }
    tasks = {task: defaults_for(model, task) for task in model.tasks}
    return EnergyBench(model, tasks, train, valid, test, classifier, others)


def evaluate(
    bench: EnergyBench,
    features: Features,
    *,
    images: int,
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """What goes on a card as ``metrics``: plain numbers that JSON can hold, and under ``protocol`` what they mean.

    Args:
        features: see :class:`models.metrics.effnet.EffNetFeatures`.
        images: how many to generate, at least ``LEAST``; so many real ones are taken for comparison.
        progress: is told what begins.

    Raises:
        RowsError: a chain of the model diverged.
    """
    parts: dict[str, Callable[[], dict[str, Any]]] = {"generate": lambda: generation(bench, features, images)}
    if "inpaint" in bench.tasks:
        parts["inpaint"] = lambda: {"inpainting": inpainting(bench)}
    if "denoise" in bench.tasks:
        parts["denoise"] = lambda: {"denoising": denoising(bench)}
    if "score" in bench.tasks:
        parts["score"] = lambda: {
            "detection": separation(bench, images),
            "detection_by_slope": separation(bench, images, "slope"),
        }
    report: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name, measure in parts.items():
        progress(f"{name}: measuring")
        started = time.perf_counter()
        report |= measure()
        seconds[name] = round(time.perf_counter() - started, 1)
    data = {"train": bench.train.name, "valid": bench.valid.name, "test": bench.test.name}
    return {**report, "data": data, "seed": SEED, "seconds": seconds, "protocol": _protocol(bench, images, report)}


def _protocol(bench: EnergyBench, images: int, report: Mapping[str, Any]) -> dict[str, str]:
    """The sentences of ``PROTOCOL`` for what was measured."""
    counts = {
        "images": images,
        "real": min(images, len(bench.train)),
        "held_out": min(images, len(bench.valid)),
        "scored": min(images, len(bench.test)),
        "reference": min(REFERENCE, len(bench.test)),
        "train": len(bench.train),
        "pictures": min(PICTURES, len(bench.test)),
    }
    kinds = {name: _SETS.get(name, f"test images of {name}") for name in report.get("detection", ())}
    words = {name: f"{count:,}" for name, count in counts.items()}
    words["kinds"] = "; ".join(f"{name}: {kind}" for name, kind in kinds.items())
    absent = {"inpainting", "denoising", "detection", "detection_by_slope"} - report.keys()
    absent |= set() if bench.classifier else {"kid_judge", "classes"}
    return {name: text.format(**words) for name, text in PROTOCOL.items() if name not in absent}


def _prepare(model: LoadedModel, run: Run) -> EnergyBench:
    if run.options["images"] < LEAST:
        raise EvaluationError(f"--images must be at least {LEAST}")
    run.features()  # not after a classifier was trained
    return prepare(model, run)


def _judge(bench: EnergyBench) -> float | None:
    if bench.classifier is None or bench.test.labels is None:
        return None
    return accuracy(bench.classifier, to_float(bench.test.images), bench.test.labels)


EVALUATION = Evaluation(
    options={"images": 1000},
    prepare=_prepare,
    evaluate=lambda bench, run: evaluate(bench, run.features(), **run.options, progress=run.progress),
    judge=_judge,
    judged=frozenset({"kid_judge", "kid_judge_std_error", "classes"}),
)
"""Models that make images from noise alone: kernel distances to held-out images, and what else their tasks show."""
