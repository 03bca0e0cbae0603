"""Measuring a checkpoint: its own ``generate`` task makes the images, an independently trained classifier judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from models.core.loop import run, run_together
from models.core.model import LoadedModel
from models.core.noise import mix
from models.data.catalog import load
from models.data.images import ImageData, to_float
from models.data.splits import SPLITS
from models.evaluation.base import Choice, Evaluation, Run
from models.evaluation.jobs import defaults_for, energies, job_of, trained_steps
from models.evaluation.latents import evaluate_latents
from models.evaluation.trust import check_splits
from models.metrics.classifier import Classifier, accuracy
from models.metrics.classifier_store import load_or_train
from models.metrics.generation import evaluate_generation
from models.metrics.kid import kid, reference
from models.metrics.margins import different_pairs, swap_margins

_CHUNK = 100
_PAIRS = 1_000
_STYLES = 10
_SWAP = (
    "share of {pairs} pairs of test images of different classes whose values are greater under their own labels than "
    "with the labels swapped, f(Y1,C1) + f(Y2,C2) > f(Y1,C2) + f(Y2,C1); a model that ignores labels has a half"
)


def sampler(
    model: LoadedModel, classes: list[str], defaults: Mapping[str, Any]
) -> Callable[[Tensor, int, bool], Tensor]:
    """(labels ``[n]``, seed, refine) -> images ``[n, C, H, W]``, a job a class with the card's defaults."""

    def sample(labels: Tensor, seed: int, refine: bool) -> Tensor:
        images: dict[int, Tensor] = {}
        for label in labels.unique().tolist():
            places = (labels == label).nonzero().flatten()
            for chunk, part in enumerate(places.split(_CHUNK)):
                own = {"n": len(part), "seed": mix(seed, label, chunk) >> 1, "label": {classes[label]: 1.0}}
                job = job_of("generate", defaults, **own, refine=refine)
                made = run(model.start("generate", job)).images
                assert made is not None  # the task makes images
                images |= dict(zip(part.tolist(), made.cpu(), strict=True))
        return torch.stack([images[k] for k in range(len(labels))])

    return sample


@dataclass(frozen=True, eq=False)
class LabelBench:
    """A checkpoint with the data and the classifier that it is measured against.

    Args:
        defaults: of ``generate``, from the card.
        restyle: the defaults of ``restyle``, if the model does it.
    """

    model: LoadedModel
    classes: list[str]
    defaults: Mapping[str, Any]
    restyle: Mapping[str, Any] | None
    trained_steps: int
    train: ImageData
    valid: ImageData
    test: ImageData
    classifier: Classifier


def splits_for(model: LoadedModel, run: Run) -> tuple[ImageData, ImageData, ImageData]:
    """The train, valid and test images of a set, in the size and channels of a model.

    Raises:
        DataError: the data can't be used.
    """
    size, channels = model.card["image"]["height"], model.card["image"]["channels"]
    train, valid, test = (
        load(run.data, split, run.root, image_size=size, channels=channels, direction=run.direction) for split in SPLITS
    )
    return train, valid, test


def prepare(model: LoadedModel, run: Run) -> LabelBench:
    """The model with its data and an independent classifier, which is trained once and then kept.

    Raises:
        DataError: the data can't be used, or do not fit the model.
    """
    train, valid, test = splits_for(model, run)
    check_splits(tuple(model.card["classes"]), train, valid, test)
    classifier = load_or_train(run.root, run.data, train, progress=run.progress)
    return LabelBench(
        model,
        model.card["classes"],
        defaults_for(model, "generate"),
        defaults_for(model, "restyle") if "restyle" in model.tasks else None,
        trained_steps(model, "generate"),
        train,
        valid,
        test,
        classifier,
    )


def choose_steps(bench: LabelBench, *, per_class: int, progress: Callable[[str], None]) -> tuple[int, dict[str, float]]:
    """How many refinement steps make images nearest to held-out *validation* images, by kernel distance (KID).

    A solver that has converged moves images little, and its last steps may overshoot: fewer steps than in training can
    be better. The same proposals are refined by 1, 2 ... steps, up to as many as in training.

    Returns:
        The best number of steps, and the distance of each; 0 stands for the proposals.
    """
    labels = torch.arange(len(bench.classes)).repeat(per_class)
    target = reference(bench.classifier.features(to_float(bench.valid.images)))
    distances = {}
    for steps in range(bench.trained_steps + 1):
        images = sampler(bench.model, bench.classes, {**bench.defaults, "steps": steps})(labels, 2, steps > 0)
        distances[steps] = kid(bench.classifier.features(images), target)
        progress(f"{steps} steps: KID {distances[steps]:.6f} against {len(bench.valid)} validation images")
    best = min(range(1, bench.trained_steps + 1), key=lambda steps: distances[steps])
    return best, {str(steps): distance for steps, distance in distances.items()}


def label_use(bench: LabelBench) -> float:
    """Whether the model's value tells labels apart: the share of positive swap margins.

    Of pairs of test images of different classes; see :func:`models.metrics.margins.swap_margins`.
    """
    assert bench.test.labels is not None
    labels = bench.test.labels

    def value(images: Tensor, labels: Tensor) -> Tensor:
        jobs = [
            job_of("score", bench.defaults, steps=0, seed=0, image=image, label={label: 1.0})
            for image, label in zip(images, (bench.classes[k] for k in labels.tolist()), strict=True)
        ]
        outputs = run_together([bench.model.start("score", job) for job in jobs])
        return torch.cat([-energies(output) for output in outputs])

    chunks = different_pairs(labels, _PAIRS, seed=3).split(_CHUNK, 1)
    margins = torch.cat([swap_margins(value, to_float(bench.test.images[p]), labels[p]) for p in chunks])
    return float((margins > 0).double().mean())


def evaluate(
    bench: LabelBench, *, per_class: int, parzen_samples: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """What goes on a card as ``metrics``: see :func:`models.metrics.generation.evaluate_generation`.

    With it ``swap_margin_positive`` (:func:`label_use`) and ``latents``
    (:func:`models.evaluation.latents.evaluate_latents`), where the model does the tasks that they need.
    """
    metrics = evaluate_generation(
        sampler(bench.model, bench.classes, bench.defaults),
        classifier=bench.classifier,
        valid=bench.valid,
        test=bench.test,
        per_class=per_class,
        parzen_samples=parzen_samples,
        progress=progress,
    )
    if "score" in bench.model.tasks:
        metrics["swap_margin_positive"] = label_use(bench)
        metrics["protocol"]["swap_margin_positive"] = _SWAP.format(pairs=_PAIRS)
    if bench.restyle:
        progress(f"restyling {_STYLES * len(bench.classes)} test images in every class")
        metrics["latents"] = evaluate_latents(
            bench.model,
            bench.restyle,
            classifier=bench.classifier,
            train=bench.train,
            test=bench.test,
            per_class=_STYLES,
        )
    return metrics


def _choose(bench: LabelBench, run: Run) -> Choice:
    steps, distances = choose_steps(bench, per_class=3 * run.options["per_class"], progress=run.progress)
    better = replace(bench, defaults={**bench.defaults, "steps": steps})
    return Choice(better, steps, {"steps": steps, "kid": distances})


def _evaluate(bench: LabelBench, run: Run) -> dict[str, Any]:
    return evaluate(bench, **run.options, progress=run.progress)


def _judge(bench: LabelBench) -> float:
    assert bench.test.labels is not None
    return accuracy(bench.classifier, to_float(bench.test.images), bench.test.labels)


EVALUATION = Evaluation(
    options={"per_class": 100, "parzen_samples": 10_000},
    prepare=prepare,
    evaluate=_evaluate,
    choose_steps=_choose,
    judge=_judge,
    judged=frozenset(
        {"accuracy", "accuracy_per_class", "kid", "kid_full", "classifier_score", "classifier_score_std"}
        | {"target_accuracy", "steps_chosen_on_validation"}
    ),
)
"""Models with classes: a classifier that was trained on real images judges, and kernel distances and Parzen windows."""
