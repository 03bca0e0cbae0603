"""What the shipped flow and energy of clothes make together: nearer to real pictures than what either makes alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.checkpoints import load_model, read_card
from models.core.model import LoadedModel
from models.data.holes import centred_square
from models.data.images import ImageData, to_float
from models.evaluation.jobs import defaults_for, pictures, run_jobs
from models.metrics.effnet import EffNetFeatures
from models.metrics.kid import kid_with_error

FOLDER = Path(__file__).resolve().parents[1] / "checkpoints" / "fashion-coopflow" / "1"
_SHOWN = 40


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model(FOLDER, torch.device("cpu"))


@pytest.fixture(scope="module")
def truth(sample: Mapping[str, ImageData]) -> Tensor:
    return to_float(sample["test"].images)


def made(model: LoadedModel, **changes: Any) -> Tensor:
    (output,) = run_jobs(
        model, "generate", {**defaults_for(model, "generate"), "n": _SHOWN, **changes}, [{}], seed=1, at_once=1
    )
    return pictures(output)


def test_refined_images_are_nearer_to_real_ones_than_proposals(model: LoadedModel, truth: Tensor) -> None:
    features = EffNetFeatures()
    seen = features(truth[:100])
    proposed, refined = (kid_with_error(features(made(model, refine=refine)), seen) for refine in (False, True))
    gain = proposed - refined
    assert gain.value > 3 * gain.std_error


def test_the_pair_beats_each_of_its_parts_on_the_card() -> None:
    metrics = read_card(FOLDER)["metrics"]
    others = [metrics["proposal"], metrics["langevin"], *metrics["beside"].values()]
    assert len(others) == 4
    assert all(other["margin"] > 2 * other["margin_std_error"] for other in others)


def test_what_is_shown_comes_back_and_completions_differ(model: LoadedModel, truth: Tensor) -> None:
    mask = centred_square(28).float()[None]
    given = torch.where(mask > 0, torch.zeros(()), truth[0])
    defaults = defaults_for(model, "inpaint")
    few = {**defaults, "options": {**defaults["options"], "iterations": 3}}
    (output,) = run_jobs(model, "inpaint", few, [{"n": 2, "image": given, "mask": mask}], seed=1, at_once=1)
    shown, hidden = mask[0] == 0, mask[0] > 0
    results = pictures(output)[:, 0]
    assert torch.equal(results[:, shown], given[0][shown].expand(2, -1))
    assert (results[0] - results[1])[hidden].abs().mean() > 0.01
    assert output.numbers["trace"][0][-1] < output.numbers["trace"][0][0]
