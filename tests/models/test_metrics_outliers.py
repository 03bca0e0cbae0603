"""AUROC against its definition, and the sets that images are told from."""

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from models.metrics.outliers import auroc, comparison_sets, constant, detection, grey, interpolated, uniform


def _normal(n: int, shift: float = 0.0, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


INSIDE, OUTSIDE = _normal(300, 0.7), _normal(200, seed=1)


def test_auroc_is_the_share_of_pairs_in_order() -> None:
    by_hand = (INSIDE[:, None] > OUTSIDE[None]).double().mean().item()
    assert auroc(INSIDE, OUTSIDE) == pytest.approx(by_hand, abs=1e-12)
    assert auroc(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 1
    assert auroc(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0, 4.0])) == pytest.approx(3 / 6)


def test_auroc_agrees_with_torchmetrics_on_probabilities() -> None:
    inside, outside = (torch.sigmoid(x).mul(20).round().div(20).float() for x in (INSIDE, OUTSIDE))  # with ties
    labels = torch.cat([torch.ones(300), torch.zeros(200)]).long()
    assert auroc(inside, outside) == pytest.approx(binary_auroc(torch.cat([inside, outside]), labels).item(), abs=1e-6)


def test_auroc_depends_on_the_order_alone() -> None:
    value = auroc(INSIDE, OUTSIDE)
    for a, b in ((3.0, 2.0), (1e4, -7e5), (1e-3, 0.5)):
        assert auroc(a * INSIDE + b, a * OUTSIDE + b) == pytest.approx(value, abs=1e-12)
        assert auroc(-a * INSIDE + b, -a * OUTSIDE + b) == pytest.approx(1 - value, abs=1e-12)
    assert auroc(OUTSIDE, INSIDE) == pytest.approx(1 - value, abs=1e-12)


def test_ties_count_one_half() -> None:
    scores = torch.tensor([1.0, 2.0, 2.0, 3.0])
    assert auroc(scores, torch.tensor([2.0] * 5)) == pytest.approx(1 / 4 + 0.5 * 2 / 4)
    assert auroc(INSIDE, INSIDE) == 0.5
    assert auroc(torch.ones(3), torch.ones(7)) == 0.5
    level = 0.2
    expected = (level < INSIDE).double().mean().item()
    assert auroc(INSIDE, torch.full((9,), level, dtype=torch.float64)) == pytest.approx(expected, abs=1e-12)


def test_scores_of_other_precisions_and_infinities_are_ranked() -> None:
    assert auroc(torch.tensor([1.0, torch.inf]), torch.tensor([0.5, -torch.inf], dtype=torch.float64)) == 1


@pytest.mark.parametrize("scores", [torch.zeros(0), torch.zeros(2, 1), torch.tensor([0.0, torch.nan])])
def test_what_is_no_list_of_scores_is_refused(scores: Tensor) -> None:
    with pytest.raises(ValueError, match="AUROC needs scores"):
        auroc(scores, OUTSIDE)
    with pytest.raises(ValueError, match="AUROC needs scores"):
        auroc(INSIDE, scores)


def test_uniform_noise_fills_the_range() -> None:
    noise = uniform(50, 3, 16, seed=1)
    assert noise.shape == (50, 3, 16, 16)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.var().item() == pytest.approx(1 / 3, abs=0.005)
    assert -1 <= noise.min() < -0.99 < 0.99 < noise.max() <= 1


def test_constants_are_plain_and_each_of_its_own_colour() -> None:
    plain = constant(500, 3, 8, seed=1)
    assert plain.shape == (500, 3, 8, 8)
    assert torch.equal(plain, plain[:, :, :1, :1].expand_as(plain))
    colours = plain[:, :, 0, 0]
    assert len(colours.unique(dim=0)) == 500
    assert colours.var(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.05)
    assert grey(3, 8).shape == (1, 3, 8, 8)
    assert grey(3, 8).unique().tolist() == [0]


def test_interpolated_images_are_means_of_two_different_ones() -> None:
    images = 2.0 ** torch.arange(10)[:, None]  # every sum of two tells which they are
    means = interpolated(images, 10, seed=3)
    sums = {int(2 * value) for value in means[:, 0]}
    assert all(value.bit_count() == 2 for value in sums)
    assert len(sums) == 10
    assert torch.equal(interpolated(images, 4, seed=3), means[:4])
    with pytest.raises(ValueError, match="at least 11 images, got 10"):
        interpolated(images, 11, seed=3)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        interpolated(images[:1], 1, seed=3)


def test_the_sets_are_pure_functions_of_their_arguments() -> None:
    images = uniform(20, 1, 4, seed=9)
    digits = torch.ones(50, 1, 4, 4)
    sets, again = (comparison_sets(images, 30, 5, {"digits": digits}) for _ in range(2))
    assert {name: len(x) for name, x in sets.items()} == {
        "uniform": 30,
        "constant": 30,
        "grey": 1,
        "interp": 20,
        "digits": 30,
    }
    assert all(torch.equal(sets[name], again[name]) for name in sets)
    assert all(x.shape[1:] == images.shape[1:] and x.abs().max() <= 1 for x in sets.values())
    other = comparison_sets(images, 30, 6)
    assert "digits" not in other
    assert not any(torch.equal(sets[name], other[name]) for name in ("uniform", "constant", "interp"))
    # The colours of `constant` are not the corner pixels of `uniform`.
    assert not torch.equal(sets["constant"][:, :, 0, 0], sets["uniform"][:, :, 0, 0])


def test_sets_that_do_not_fit_the_images_are_refused() -> None:
    images = uniform(20, 1, 4, seed=9)
    for others in ({"digits": torch.ones(5, 1, 8, 8)}, {"interp": torch.ones(5, 1, 4, 4)}):
        with pytest.raises(ValueError, match="needs a name of its own and images"):
            comparison_sets(images, 5, 0, others)
    with pytest.raises(ValueError, match="square images"):
        comparison_sets(images[:, :, :2], 5, 0)
    with pytest.raises(ValueError, match="n of at least 1"):
        comparison_sets(images, 0, 0)


def test_detection_scores_each_set_in_pieces() -> None:
    seen = []

    def darkness(images: Tensor) -> Tensor:
        seen.append(len(images))
        return -images.mean((1, 2, 3))

    images = uniform(1_200, 1, 4, seed=0) / 4 - 0.75  # dark: -1 to -0.5
    sets = {"bright": torch.ones(3, 1, 4, 4), "black": -torch.ones(2, 1, 4, 4), "same": images}
    assert detection(darkness, images, sets) == {"bright": 1.0, "black": 0.0, "same": 0.5}
    assert max(seen) <= 500
