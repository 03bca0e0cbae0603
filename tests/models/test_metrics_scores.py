"""Classifier score, diversity and same-label MSE against values known beforehand."""

import pytest
import torch
import torch.nn.functional as F

from models.metrics.scores import classifier_score, diversity, label_diversity, same_label_mse


def _rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_uniform_probabilities_score_one() -> None:
    score = classifier_score(torch.full((50, 10), 0.1), splits=5)
    assert score.mean == pytest.approx(1, abs=1e-6)
    assert score.std == pytest.approx(0, abs=1e-6)


def test_sure_and_balanced_probabilities_score_the_number_of_classes() -> None:
    sure = F.one_hot(torch.arange(10).repeat_interleave(30), 10).float()
    assert classifier_score(sure, splits=1).mean == pytest.approx(10)
    # Shuffled before it is cut: the parts of a set in the order of its labels are nearly balanced too.
    assert classifier_score(sure, splits=3).mean > 9


def test_images_of_one_class_score_one_however_sure() -> None:
    sure = F.one_hot(torch.full((40,), 3), 10).float()
    assert classifier_score(sure, splits=4).mean == pytest.approx(1)


def test_the_score_has_no_luck_in_it_and_varies_over_splits() -> None:
    probabilities = (_rand(100, 4) * 5).softmax(1)
    assert classifier_score(probabilities) == classifier_score(probabilities)
    assert classifier_score(probabilities).std > 0
    assert classifier_score(probabilities) != classifier_score(probabilities, seed=1)


@pytest.mark.parametrize("splits", [0, 11])
def test_splits_must_hold_an_image_each(splits: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.10"):
        classifier_score(torch.full((10, 2), 0.5), splits)


def test_diversity_is_the_mean_over_pairs() -> None:
    images = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).view(3, 1, 1, 2)
    assert diversity(images) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert diversity(images[:1].expand(5, -1, -1, -1)) == 0
    with pytest.raises(ValueError, match="at least two"):
        diversity(images[:1])


def test_label_diversity_does_not_count_what_differs_between_labels() -> None:
    images = torch.tensor([0.0, 0.2, 9.0, 9.4]).view(4, 1, 1, 1)
    assert label_diversity(images, torch.tensor([0, 0, 5, 5])) == pytest.approx(0.3)
    assert label_diversity(images, torch.tensor([0, 0, 5, 6])) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no label has two images"):
        label_diversity(images, torch.arange(4))


def test_same_label_mse_is_the_mean_over_all_pairs() -> None:
    x, y = _rand(7, 1, 3, 2), _rand(9, 1, 3, 2, seed=1)
    of_x, of_y = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([0, 0, 1, 1, 1, 1, 1, 2, 2])
    expected = torch.stack([((y[of_y == label] - image) ** 2).mean() for image, label in zip(x, of_x, strict=True)])
    assert same_label_mse(x, of_x, y, of_y) == pytest.approx(float(expected.mean()), rel=1e-5)


def test_same_label_mse_needs_the_label_in_both_sets() -> None:
    images = torch.zeros(2, 1, 2, 2)
    with pytest.raises(ValueError, match="no image with the label 1"):
        same_label_mse(images, torch.tensor([0, 1]), images, torch.tensor([0, 0]))
