"""Measuring a checkpoint: its own ``generate`` task makes the images, an independently trained classifier judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoints import load_model, read_card
from models.data.catalog import load
from models.data.images import ImageData, to_float
from models.loop import run
from models.metrics.classifier import Classifier
from models.metrics.classifier_store import load_or_train
from models.metrics.generation import evaluate_generation
from models.metrics.kid import kid, reference
from models.noise import mix
from models.systems.base import Model

_CHUNK = 100


@dataclass(frozen=True)
class _Job:
    """The request that evaluation makes: the card's defaults, for one class."""

    n: int
    seed: int
    label: Mapping[str, float]
    steps: int
    step_size: float
    noise: float
    refine: bool


def sampler(model: Model, classes: list[str], defaults: Mapping[str, Any]) -> Callable[[Tensor, int, bool], Tensor]:
    """(labels ``[n]``, seed, refine) -> images ``[n, C, H, W]``, a job a class with the card's defaults."""

    def sample(labels: Tensor, seed: int, refine: bool) -> Tensor:
        images: dict[int, Tensor] = {}
        for label in labels.unique().tolist():
            places = (labels == label).nonzero().flatten()
            for chunk, part in enumerate(places.split(_CHUNK)):
                job = _Job(
                    n=len(part),
                    seed=mix(seed, label, chunk) >> 1,
                    label={classes[label]: 1.0},
                    steps=defaults["steps"],
                    step_size=defaults["step_size"],
                    noise=defaults["noise"],
                    refine=refine,
                )
                made = run(model.tasks["generate"](job)).images.cpu()
                images |= dict(zip(part.tolist(), made, strict=True))
        return torch.stack([images[k] for k in range(len(labels))])

    return sample


@dataclass(frozen=True, eq=False)
class Bench:
    """A checkpoint with the data and the classifier that it is measured against."""

    model: Model
    classes: list[str]
    defaults: Mapping[str, Any]
    trained_steps: int
    valid: ImageData
    test: ImageData
    classifier: Classifier


def prepare(folder: Path, data_name: str, data_root: Path, progress: Callable[[str], None]) -> Bench:
    """Load a checkpoint, its held-out data and an independent classifier, which is trained once and then kept.

    Args:
        folder: a checkpoint.
        data_name: the data set that it was trained on.
        data_root: the folder of data sets; trained classifiers are kept there as well.

    Raises:
        CheckpointError: the checkpoint can't be used.
        DataError: the data can't be used, or do not fit the model.
    """
    card = read_card(folder)
    model = load_model(folder, torch.device("cpu"))
    channels, size = card["image"]["channels"], card["image"]["height"]
    train, valid, test = (
        load(data_name, split, data_root, image_size=size, channels=channels) for split in ("train", "valid", "test")
    )
    classifier = load_or_train(data_root, data_name, train, progress=progress)
    task = card["tasks"]["generate"]
    return Bench(model, card["classes"], task["defaults"], task["limits"]["trained_steps"], valid, test, classifier)


def choose_steps(bench: Bench, *, per_class: int, progress: Callable[[str], None]) -> tuple[int, dict[str, float]]:
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


def evaluate(bench: Bench, *, per_class: int, parzen_samples: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """What goes on a card as ``metrics``: see :func:`models.metrics.generation.evaluate_generation`."""
    return evaluate_generation(
        sampler(bench.model, bench.classes, bench.defaults),
        classifier=bench.classifier,
        valid=bench.valid,
        test=bench.test,
        per_class=per_class,
        parzen_samples=parzen_samples,
        progress=progress,
    )
