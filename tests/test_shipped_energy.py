"""What the shipped energy of clothes does with real pictures that it has not seen: the sample's test images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.checkpoints import load_model, read_card
from models.core.model import LoadedModel
from models.core.output import Output
from models.data.holes import centred_square
from models.data.images import ImageData, to_float, to_uint8
from models.evaluation.jobs import defaults_of, pictures, run_jobs
from models.metrics.outliers import auroc
from models.metrics.pictures import psnr

FOLDER = Path(__file__).resolve().parents[1] / "checkpoints" / "fashion-cfebm" / "1"


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model(FOLDER, torch.device("cpu"))


@pytest.fixture(scope="module")
def truth(sample: Mapping[str, ImageData]) -> Tensor:
    return to_float(sample["test"].images[:60])


def answers(model: LoadedModel, task: str, own: list[dict[str, Any]]) -> list[Output]:
    """With the card's defaults."""
    return run_jobs(model, task, defaults_of(read_card(FOLDER)["tasks"][task]), own, seed=1, at_once=30)


def test_denoising_takes_noise_away(model: LoadedModel, truth: Tensor) -> None:
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    noisy = to_float(to_uint8(truth + 0.2 * noise))
    outputs = answers(model, "denoise", [{"image": image} for image in noisy])
    gain = psnr(torch.cat([pictures(output) for output in outputs]), truth) - psnr(noisy, truth)
    assert gain.mean() > 0.3
    assert (gain > 0).float().mean() > 0.7


def test_a_completion_is_nearer_to_the_truth_than_the_mean_image(
    model: LoadedModel, truth: Tensor, sample: Mapping[str, ImageData]
) -> None:
    mask = centred_square(28).float()[None]
    hidden = mask[0] > 0
    own = [{"n": 2, "image": torch.where(mask > 0, torch.zeros(()), image), "mask": mask} for image in truth]
    results = torch.stack([pictures(output) for output in answers(model, "inpaint", own)])[:, :, 0][..., hidden]
    inside = truth[:, 0][:, hidden]
    mean = to_float(sample["train"].images).mean(0)[0][hidden]
    assert (results - inside[:, None]).square().mean() < (mean - inside).square().mean()
    assert results.var(1).mean().sqrt() > 0.02  # two completions differ


def test_the_value_tells_noise_from_clothes(model: LoadedModel, truth: Tensor) -> None:
    noise = 2 * torch.rand(truth.shape, generator=torch.Generator().manual_seed(1)) - 1

    def f(images: Tensor) -> Tensor:
        outputs = answers(model, "score", [{"image": image} for image in images])
        return torch.tensor([float(output.numbers["f"][0]) for output in outputs])

    assert auroc(f(truth), f(noise)) > 0.95
