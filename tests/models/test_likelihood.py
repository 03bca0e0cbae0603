"""Likelihood bounds against densities whose log Z is known, and the command that measures them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from coopserve.cli import main
from models.checkpoints import publish, read_card
from models.core.noise import row_seeds
from models.evaluation.bounds import dequantised, evaluate_likelihood
from models.evaluation.likelihood import LikelihoodError, Mean, Settings, effective_size, log_mean_exp, measure_log_z
from models.samplers.spaces import Box
from tests.toy.config import PRESETS


def test_weights_are_summed_up_as_they_should_be() -> None:
    w = torch.tensor([1.0, 2.0, 5.0]).double()
    assert log_mean_exp(w.log() + 800) == pytest.approx(math.log(8 / 3) + 800)
    assert effective_size(w.log() - 800) == pytest.approx(64 / 30)
    mean = Mean.of(w)
    assert (mean.value, mean.se) == pytest.approx((8 / 3, w.std().item() / math.sqrt(3)))
    assert mean.minus(Mean(1.0, 2.0)).se == pytest.approx(math.hypot(mean.se, 2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperatures": 0}, "at least 1"),
        ({"chains": 1}, "2 chains"),
        ({"tau": 0.0}, "tau"),
        ({"tau": math.nan}, "tau"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LikelihoodError, match=message):
        Settings(**values)


def test_levels_are_spread_over_their_share_of_the_range() -> None:
    images = torch.tensor([0, 100, 255], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 40, 40)
    pixels = dequantised(images, row_seeds(1, 3))
    assert bool((pixels.abs() <= 1).all())
    for image, level in zip(pixels, (0, 100, 255), strict=True):
        unit = (image + 1) / 2 * 256 - level
        assert unit.min() >= -1e-4
        assert unit.max() <= 1 + 1e-4
        assert unit.mean().item() == pytest.approx(0.5, abs=0.03)


def value_of(sigma: float, tau: float = 1.0):  # type: ignore[no-untyped-def]
    return lambda images: -tau * images.flatten(1).square().sum(1) / (2 * sigma**2)


def pictures(n: int = 40) -> Tensor:
    return torch.randint(0, 256, (n, 1, 2, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


SMALL = Settings(temperatures=30, leapfrogs=3, chains=128)


def test_likelihood_bounds_hold_the_truth_on_both_scales() -> None:
    sigma, images, heard = 0.3, pictures(), list[str]()
    report = evaluate_likelihood(value_of(sigma), images, SMALL, heard.append)
    log_z = 6 * math.log(sigma * math.sqrt(2 * math.pi) * math.erf(1 / (sigma * math.sqrt(2))))
    at = dequantised(images, row_seeds(0, 40))
    truth = -at.flatten(1).square().sum(1).mean().item() / (2 * sigma**2) - log_z
    for scale, gain in (("[-1, 1]", 0.0), ("[0, 1]", 6 * math.log(2))):
        bounds = report["log_likelihood"][scale]
        assert bounds["lower"]["value"] < truth + gain + 0.3
        assert bounds["upper"]["value"] > truth + gain - 0.3
        assert bounds["estimate"] == pytest.approx(truth + gain, abs=0.5)
    wide, unit = (report["log_likelihood"][scale] for scale in ("[-1, 1]", "[0, 1]"))
    for end in ("lower", "upper"):
        assert unit[end]["value"] == wide[end]["value"] + 6 * math.log(2)
        assert unit[end]["se"] == wide[end]["se"]
    assert report["log_z"]["lower"]["value"] < log_z < report["log_z"]["upper"]["value"]
    assert report["log_z"]["estimate"] == pytest.approx(log_z, abs=0.2)
    assert report["dimensions"] == 6
    assert len(report["acceptance"]) == 10
    json.dumps(report, allow_nan=False)
    assert any(message.startswith("pilot") for message in heard)
    assert "forward: 30 of 30 temperatures" in heard
    assert "reverse: 30 of 30 temperatures" in heard


def test_tau_divides_the_value() -> None:
    plain = measure_log_z(value_of(0.3), Box(), (1, 2, 3), Settings(3, 2, 4))
    warm = measure_log_z(value_of(0.3, tau=4.0), Box(), (1, 2, 3), Settings(3, 2, 4, tau=4.0))
    torch.testing.assert_close(warm.forward.log_weights, plain.forward.log_weights)
    torch.testing.assert_close(warm.reverse.log_weights, plain.reverse.log_weights)


def test_the_same_seed_gives_the_same_figures_and_another_others() -> None:
    first, same, other = (
        measure_log_z(value_of(0.3), Box(), (1, 2, 3), Settings(2, 1, 3, seed=seed)).lower for seed in (0, 0, 1)
    )
    assert first == same != other


def test_values_that_are_not_finite_are_named() -> None:
    with pytest.raises(LikelihoodError, match="on the box"):
        measure_log_z(lambda images: images.flatten(1).sum(1).log(), Box(), (1, 2, 3), SMALL)
    with pytest.raises(LikelihoodError, match="on the images"):
        evaluate_likelihood(lambda images: images.flatten(1).sum(1) / 0, pictures(), SMALL)
    with pytest.raises(LikelihoodError, match="2 test images"):
        evaluate_likelihood(value_of(0.3), pictures(1), SMALL)


CARD = {
    "title": "t",
    "description": "d",
    "license": "MIT",
    "image": {"height": 4, "width": 4, "channels": 1},
    "tasks": {},
    "metrics": {"kid": 0.5},
}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder with the model ``toy``, which has a density, and with data."""
    config = PRESETS["plain"].model_copy(update={"size": 4}).model_dump()
    card = {**CARD, "name": "toy", "system": "toy", "variant": "toy/gaussian", "config": config}
    publish(tmp_path / "models", card, {name: torch.zeros(1, 4, 4) for name in ("mean", "proposed")})
    np.savez(tmp_path / "data.npz", images=pictures(120).repeat(1, 1, 2, 1)[..., :2].repeat(1, 1, 1, 2)[:, 0].numpy())
    yield tmp_path
    torch.set_flush_denormal(False)


def command(home: Path, name: str, *args: str) -> tuple[int, str]:
    line = [
        "evaluate",
        name,
        "--data",
        str(home / "data.npz"),
        "--likelihood",
        "--temperatures",
        "6",
        "--leapfrog",
        "2",
    ]
    env = {"COOPSERVE_DATA_DIR": str(home), "COOPSERVE_CHECKPOINTS_DIR": "checkpoints"}
    result = CliRunner().invoke(main, [*line, "--chains", "4", *args], env=env)
    return result.exit_code, result.output


def test_the_command_puts_the_figures_beside_the_others(home: Path) -> None:
    code, output = command(home, "toy", "--tau", "2")
    assert code == 0, output
    assert "forward: 6 of 6 temperatures" in output
    metrics = read_card(home / "models" / "toy" / "1")["metrics"]
    assert metrics["kid"] == 0.5
    assert metrics["likelihood"]["settings"] == {"temperatures": 6, "leapfrogs": 2, "chains": 4, "tau": 2.0, "seed": 0}
    assert metrics["likelihood"]["dimensions"] == 16
    assert metrics["likelihood"]["images"] == 12


def test_the_command_refuses_a_model_without_a_density_and_a_bad_tau(home: Path) -> None:
    code, output = command(home, "fashion-ccoopnets")
    assert code == 1
    assert "fashion-ccoopnets has no density over images by themselves" in output
    code, output = command(home, "toy", "--tau", "0")
    assert code == 1
    assert "tau must be positive" in output
