"""The judge: it learns, gives features, and is kept without pickles."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from models.data.catalog import load
from models.data.images import DataError, ImageData, to_float
from models.metrics.classifier import Classifier, accuracy, train_classifier
from models.metrics.classifier_store import load_classifier, load_or_train, save_classifier
from models.metrics.kid import kid

SAMPLE = str(Path(__file__).parents[1] / "data" / "fashion-sample.npz")


@pytest.fixture(scope="module")
def train() -> ImageData:
    return load(SAMPLE, "train", Path())


@pytest.fixture(scope="module")
def test() -> ImageData:
    return load(SAMPLE, "test", Path())


@pytest.fixture(scope="module")
def classifier(train: ImageData) -> Classifier:
    return train_classifier(train, seed=0, epochs=12, progress=print)


def _tiny(n: int = 8, size: int = 8) -> ImageData:
    images = torch.randint(0, 256, (n, 1, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageData(images, torch.arange(n) % 2, ("a", "b"), "tiny")


def test_it_learns_from_a_few_hundred_real_images(classifier: Classifier, test: ImageData) -> None:
    assert test.labels is not None
    reached = accuracy(classifier, to_float(test.images), test.labels)
    assert reached > 0.6  # chance is 0.1
    wrong = (test.labels + 1) % 10
    assert accuracy(classifier, to_float(test.images), wrong) < 0.2


def test_features_are_flat_and_an_image_keeps_its_own(classifier: Classifier, test: ImageData) -> None:
    images = to_float(test.images)
    features = classifier.features(images)
    assert features.shape == (100, 3136)
    assert torch.allclose(classifier.features(images[7:8])[0], features[7], atol=1e-5)
    assert torch.allclose(classifier.probabilities(images).sum(1), torch.ones(100))
    assert torch.equal(classifier.predict(images), classifier.probabilities(images).argmax(1))


def test_judging_leaves_the_mode_and_the_statistics_alone(test: ImageData) -> None:
    classifier = Classifier(1, 28, test.classes).train()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    classifier.predict(to_float(test.images))
    assert classifier.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())


def test_the_kernel_distance_in_its_features_grows_with_blur(
    classifier: Classifier, train: ImageData, test: ImageData
) -> None:
    real = classifier.features(to_float(train.images))
    images = to_float(test.images)
    blurred = [F.avg_pool2d(images, k, 1, k // 2) for k in (1, 3, 7)]
    distances = [kid(classifier.features(batch), real) for batch in blurred]
    halves = kid(real[::2], real[1::2])
    assert abs(halves) < 0.1 * distances[1]
    assert abs(distances[0]) < 0.2 * distances[1]
    assert 0 < distances[1] < distances[2]


def test_training_is_repeatable_and_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    said: list[str] = []
    one, two = (train_classifier(_tiny(), seed=1, epochs=3, progress=said.append) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert len(said) == 6
    assert said[2].startswith("classifier: epoch 3/3, loss ")
    images = to_float(_tiny().images)
    other = train_classifier(_tiny(), seed=2, epochs=3, progress=said.append)
    assert not torch.equal(one.features(images), other.features(images))


@pytest.mark.parametrize(("channels", "size", "features"), [(1, 28, 3136), (3, 32, 4096)])
def test_sizes_and_channels(channels: int, size: int, features: int) -> None:
    images = torch.zeros(2, channels, size, size)
    assert Classifier(channels, size, ["a", "b", "c"]).features(images).shape == (2, features)
    assert Classifier(channels, size, ["a", "b", "c"]).probabilities(images).shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Classifier(1, 30, ["a", "b"]), "multiple of 4"),
        (lambda: Classifier(1, 28, ["a"]), "two classes"),
        (lambda: Classifier(1, 28, ["a", "b"]).predict(torch.zeros(2, 1, 32, 32)), r"\['n', 1, 28, 28\]"),
        (lambda: Classifier(1, 28, ["a", "b"]).predict(torch.zeros(0, 1, 28, 28)), "got"),
        (lambda: train_classifier(_tiny(1), seed=0, epochs=9, progress=print), "too few"),
        (lambda: train_classifier(_tiny(), seed=0, epochs=1, progress=print), "too few"),
        (
            lambda: train_classifier(ImageData(_tiny().images, None, (), "x"), seed=0, epochs=9, progress=print),
            "no labels",
        ),
        (
            lambda: train_classifier(
                ImageData(_tiny().images[:, :, :4], _tiny().labels, ("a", "b"), "x"), seed=0, epochs=9, progress=print
            ),
            "square",
        ),
    ],
)
def test_what_can_not_be_judged_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_a_saved_classifier_judges_alike(classifier: Classifier, test: ImageData, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "judge"
    save_classifier(classifier, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["classifier.json", "weights.safetensors"]
    again = load_classifier(folder)
    assert again.classes == classifier.classes
    assert not again.training
    images = to_float(test.images)
    assert torch.equal(again.features(images), classifier.features(images))
    save_classifier(Classifier(1, 28, ["a", "b"]), folder)  # there already: kept as it is
    assert load_classifier(folder).classes == classifier.classes
    assert [path.name for path in folder.parent.iterdir()] == ["judge"]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "judge"
    with pytest.raises(DataError, match="can't be read"):
        load_classifier(folder)
    save_classifier(Classifier(1, 8, ["a", "b"]), folder)
    card, weights = folder / "classifier.json", folder / "weights.safetensors"
    good = card.read_text()

    card.write_text(good[:-20])
    with pytest.raises(DataError, match="can't be read"):
        load_classifier(folder)
    card.write_text(json.dumps({**json.loads(good), "size": 12}))
    with pytest.raises(DataError, match="don't fit the network"):
        load_classifier(folder)
    card.write_text(good)
    tensors = load_file(weights)
    tensors["head.3.bias"] += 1
    save_file(tensors, weights)
    with pytest.raises(DataError, match="are not those"):
        load_classifier(folder)


def test_a_classifier_is_trained_once_for_the_same_data_and_settings(tmp_path: Path) -> None:
    said: list[str] = []

    def judge(data: ImageData, seed: int = 0) -> Classifier:
        return load_or_train(tmp_path, "tiny", data, seed=seed, epochs=2, progress=said.append)

    first, again = judge(_tiny()), judge(_tiny())
    images = to_float(_tiny().images)
    assert torch.equal(first.probabilities(images), again.probabilities(images))
    assert sum("training on" in line for line in said) == 1
    assert said[-1].startswith("classifier: from ")
    assert len(list((tmp_path / "classifiers").iterdir())) == 1
    judge(_tiny(), seed=1)
    judge(_tiny(10))
    assert len(list((tmp_path / "classifiers").iterdir())) == 3
