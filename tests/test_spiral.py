"""The spiral in two dimensions: what it measures is known where the answer is, and it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks.spiral import CELLS, EXTENT, data_log_density, divergence, grid, main, midpoints, near, observed


def test_the_data_have_the_density_that_is_told() -> None:
    """It sums to 1 over the plane, and its entropy is the mean of -log p of data."""
    log_p, cell = data_log_density(grid()), (2 * EXTENT / CELLS) ** 2
    assert float(log_p.exp().sum() * cell) == pytest.approx(1.0, abs=2e-3)
    data = observed(4000, torch.Generator().manual_seed(1))
    assert data.std(0).tolist() == pytest.approx([1.0, 1.0], abs=0.05)
    entropy = -float((log_p.exp() * log_p).nan_to_num().sum() * cell)
    assert -float(data_log_density(data).mean()) == pytest.approx(entropy, abs=0.05)


def test_a_divergence_is_that_of_gaussians() -> None:
    """KL(N(0, 1) || N(0, s^2)) in two dimensions is 2 log s + 1 / s^2 - 1."""
    half = grid().square().sum(1) / 2
    assert divergence(-half / 0.25**2, -half / 0.5**2) == pytest.approx(2 * 0.693147 + 0.25 - 1, abs=1e-3)
    assert divergence(-half, -half + 5) == pytest.approx(0, abs=1e-9)


def test_points_of_the_curve_are_near_it_and_far_ones_are_not() -> None:
    assert near(midpoints()) == 1
    assert near(torch.tensor([[2.9, 2.9], [-2.9, 2.9]])) == 0


def test_the_command_trains_measures_and_draws(tmp_path: Path) -> None:
    small = [
        "--updates",
        "2",
        "--last",
        "1",
        "--batch",
        "8",
        "--samples",
        "8",
        "--steps",
        "2",
        "--steps",
        "3",
        "--cells",
        "40",
    ]
    files = ["--picture", str(tmp_path / "a.png"), "--json", str(tmp_path / "a.json")]
    result = CliRunner().invoke(main, [*small, *files])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "a.json").read_text())
    assert all(name in json.dumps(figures) for name in ("kl_energy", "near_chain"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
