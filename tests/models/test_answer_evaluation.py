"""What is measured of several answers to one picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.core.model import LoadedModel
from models.data.lab import to_lab
from models.evaluation.base import EvaluationError, Run
from models.evaluation.modes import Questions, asked, figures, grey_of_lightness, plain, questions
from models.systems.registry import VARIANTS
from tests.models.zoo import images, pairs, tiny_model


def means(pictures: Tensor) -> Tensor:
    """Features that take no network."""
    return torch.nn.functional.adaptive_avg_pool2d(pictures, 2).flatten(1)


def measured(answers: Tensor, q: Questions) -> dict[str, float]:
    return figures(answers, q, means, means(q.truth))


def test_the_truth_is_without_error_and_grey_without_colour() -> None:
    q = questions("colorize", images(20, 12, 3))
    perfect = measured(q.truth[:, None].expand(-1, 3, -1, -1, -1), q)
    assert perfect["psnr_first"] == perfect["psnr_best"] == 100
    assert (perfect["ab_l1_first"], perfect["diversity"], perfect["l1_mean"]) == (0, 0, 0)
    name, grey = plain(q, 3)
    found = measured(grey[:, None], q)
    assert name == "grey"
    assert found["chroma"] == pytest.approx(0, abs=0.1)
    wanted = to_lab(q.truth)[:, 1:].abs().sum(1).mean() / 110
    assert found["ab_l1_first"] == pytest.approx(float(wanted), rel=0.05)


def test_the_best_of_several_is_at_least_as_good_as_their_mean() -> None:
    q = questions("translate", pairs().fit(16))
    answers = asked(tiny_model("cgml-translate"), q, 4, 1)
    assert answers.shape == (8, 4, 3, 16, 16)
    assert torch.equal(answers, asked(tiny_model("cgml-translate"), q, 4, 1))
    twice = Questions(q.task, q.given.repeat(3, 1, 1, 1), q.truth.repeat(3, 1, 1, 1))
    found = measured(answers.repeat(3, 1, 1, 1, 1), twice)
    assert found["l1_best"] < found["l1_mean"]
    assert found["psnr_best"] > found["psnr_mean"]
    assert found["psnr_of_average"] > found["psnr_mean"]
    assert found["diversity"] > 0


def test_a_completion_is_asked_for_with_its_hole() -> None:
    q = questions("inpaint", images(20, 16, 1))
    assert q.masks is not None
    name, filled = plain(q, 1)
    assert name == "mean_fill"
    assert torch.equal(filled[q.masks == 0], q.truth[q.masks == 0])
    assert set(q.fields(3)) == {"image", "mask"}


def test_grey_pictures_have_the_lightness_of_the_coloured_ones() -> None:
    picture = torch.rand(2, 3, 8, 8) * 2 - 1
    grey = grey_of_lightness(picture)
    torch.testing.assert_close(to_lab(grey.expand(-1, 3, -1, -1))[:, 0], to_lab(picture)[:, 0], atol=0.1, rtol=0)


def test_what_can_t_be_compared_is_refused() -> None:
    with pytest.raises(EvaluationError, match="no condition images"):
        questions("translate", images(4, 16))
    evaluation = VARIANTS["cgml/images"].evaluation
    with pytest.raises(EvaluationError, match="can't translate"):
        evaluation.prepare(
            _named("cgml-translate"), Run("nothing", Path("."), beside={"other": tiny_model("cgml-inpaint")})
        )
    assert evaluation.compares


def _named(name: str) -> LoadedModel:
    model = tiny_model(name)
    return LoadedModel(model.kernels, model.tasks, {**model.card, "name": name})
