"""The whole evaluation, with stand-ins for a model: real images, worse images, and broken ones."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.core.noise import Key, Noise, row_seeds
from models.data.catalog import load
from models.data.images import ImageData, to_float
from models.metrics.classifier import Classifier, train_classifier
from models.metrics.generation import PROTOCOL, Sampler, evaluate_generation

SAMPLE = str(Path(__file__).parents[1] / "data" / "fashion-sample.npz")
VALID, TEST = (load(SAMPLE, split, Path()) for split in ("valid", "test"))
TRAIN = load(SAMPLE, "train", Path())


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return train_classifier(TRAIN, seed=0, epochs=15, progress=print)


def stand_in(labels: Tensor, seed: int, refine: bool) -> Tensor:
    """A model whose refined images are real ones of the class asked for, its proposals noisy copies of them."""
    assert TRAIN.labels is not None
    seeds = row_seeds(seed, len(labels))
    choices = [torch.nonzero(TRAIN.labels == label)[:, 0] for label in labels]
    images = to_float(TRAIN.images[torch.stack([at[s % len(at)] for at, s in zip(choices, seeds, strict=True)])])
    return images if refine else images + 0.5 * Noise([Key(s, 0, 0) for s in seeds]).normal(1, 28, 28)


def test_proposal_and_refined_are_judged_from_the_same_seeds(classifier: Classifier) -> None:
    calls: list[tuple[bool, int, list[int]]] = []

    def sample(labels: Tensor, seed: int, refine: bool) -> Tensor:
        calls.append((refine, seed, labels.tolist()))
        return stand_in(labels, seed, refine)

    report = evaluate_generation(
        sample, classifier=classifier, valid=VALID, test=TEST, per_class=6, parzen_samples=600, progress=print
    )
    assert json.loads(json.dumps(report, allow_nan=False)) == report

    refined = [(seed, labels) for refine, seed, labels in calls if refine]
    assert refined == [(seed, labels) for refine, seed, labels in calls if not refine]
    assert [len(labels) for _, labels in refined] == [60, 500, 100]
    assert len({seed for seed, _ in refined}) == 3
    assert torch.tensor(refined[0][1]).bincount().tolist() == [6] * 10
    assert torch.tensor(refined[1][1] + refined[2][1]).bincount().tolist() == [60] * 10

    worse, better, real = report["proposal"], report["refined"], report["real"]
    assert better["accuracy"] > worse["accuracy"]
    assert better["accuracy"] == pytest.approx(sum(better["accuracy_per_class"].values()) / 10)
    assert list(better["accuracy_per_class"]) == list(TEST.classes)
    assert better["kid"] < worse["kid"]
    assert better["parzen_log_likelihood"] > worse["parzen_log_likelihood"] + 20
    assert better["classifier_score"] > worse["classifier_score"]
    assert better["same_label_mse"] == pytest.approx(real["same_label_mse"], rel=0.2)
    assert worse["diversity"] > better["diversity"] > 0.1  # the noise makes images differ
    assert set(better) == set(worse) == set(PROTOCOL)
    assert set(real) == {name for name in PROTOCOL if not name.startswith("parzen")}
    assert real["accuracy"] > 0.6
    assert report["protocol"].keys() == PROTOCOL.keys()
    assert report["protocol"]["accuracy"].startswith("share of images, 6 a class")
    assert "600 generated images" in report["protocol"]["parzen_log_likelihood"]
    assert not any("{" in text for text in report["protocol"].values())


def test_the_seed_decides(classifier: Classifier) -> None:
    def measure(seed: int) -> dict[str, float]:
        report = evaluate_generation(
            stand_in,
            classifier=classifier,
            valid=VALID,
            test=TEST,
            per_class=2,
            parzen_samples=20,
            seed=seed,
            progress=print,
        )
        return {name: value for name, value in report["refined"].items() if isinstance(value, float)}

    assert measure(1) == measure(1)
    assert measure(1) != measure(2)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (lambda labels, seed, refine: torch.zeros(len(labels), 1, 32, 32), r"not \[20, 1, 28, 28\]"),
        (lambda labels, seed, refine: torch.full((len(labels), 1, 28, 28), torch.nan), "not finite"),
    ],
)
def test_a_model_that_gives_no_proper_images_is_refused(classifier: Classifier, sample: Sampler, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_generation(
            sample, classifier=classifier, valid=VALID, test=TEST, per_class=2, parzen_samples=20, progress=print
        )


@pytest.mark.parametrize(
    ("valid", "test", "per_class", "message"),
    [
        (VALID, TEST.fit(32), 2, r"needs labelled images of \(1, 28, 28\)"),
        (VALID.fit(channels=3), TEST, 2, r"has \(3, 28, 28\) pixels"),
        (VALID, ImageData(TEST.images, None, (), "bare"), 2, "bare has"),
        (VALID, TEST.subset([0, 1]), 2, "no image of some"),
        (VALID.subset(range(10)), TEST, 2, "hold out more"),
        (VALID, TEST, 1, "at least 2 images a class"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    classifier: Classifier, valid: ImageData, test: ImageData, per_class: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_generation(
            stand_in,
            classifier=classifier,
            valid=valid,
            test=test,
            per_class=per_class,
            parzen_samples=20,
            progress=print,
        )
