"""The ring of five Gaussians: its data, what makes a good generator, and its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from benchmarks.ring import MODES, VARIANCE, RingGan, main, means, observed, results, ways
from models.training.draws import Draws


def test_the_data_lie_on_the_ring() -> None:
    points = observed(5000, Draws(1), 0)
    nearest = torch.cdist(points, means())
    assert means()[0].tolist() == [1.0, 0.0]
    assert nearest.argmin(1).bincount(minlength=MODES).div(5000).tolist() == pytest.approx([0.2] * 5, abs=0.02)
    assert nearest.min(1).values.square().mean().item() == pytest.approx(2 * VARIANCE, rel=0.05)
    assert torch.equal(points, observed(5000, Draws(1), 0))


class Quintets(nn.Module):
    """A perfect generator: the angle of z names the mode, its length lies within."""

    def __init__(self, modes: int) -> None:
        super().__init__()
        self.modes = modes

    def forward(self, z: Tensor) -> Tensor:
        place = (torch.atan2(z[:, 1], z[:, 0]) / (2 * torch.pi) % 1 * self.modes).long()
        return means()[place] + VARIANCE**0.5 * 0.1 * z


@pytest.mark.parametrize(("modes", "good"), [(5, True), (4, False)])
def test_a_generator_is_good_if_it_draws_all_modes(modes: int, good: bool) -> None:
    gan = RingGan(0)
    gan.generator.network = Quintets(modes)  # type: ignore[assignment]
    assert gan.masses().tolist() == pytest.approx([1 / modes] * modes + [0.0] * (5 - modes), abs=0.02)
    assert gan.good == good


def test_both_networks_learn() -> None:
    gan, again = RingGan(0), RingGan(0)
    for k in range(3):
        gan.update(k)
        again.update(k)
    fresh = RingGan(0)
    for name in ("critic", "generator"):
        ends, same, start = (list(getattr(one, name).network.parameters()) for one in (gan, again, fresh))
        assert all(torch.equal(p, q) for p, q in zip(ends, same, strict=True))
        assert not any(torch.equal(p, q) for p, q in zip(ends, start, strict=True))


def test_every_way_gives_results() -> None:
    gan = RingGan(0)
    gan.generator.network.requires_grad_(False)
    for name, how in ways(3, 2, 8).items():
        figures, points = results(gan, how, 1)
        assert points.shape == (100, 2), name
        assert 0 <= figures["share"] <= 1


def test_the_command_trains_measures_and_draws(tmp_path: Path) -> None:
    few = ["--iterations", "2", "--temperatures", "2", "--leapfrogs", "2", "--starts", "8", "--any-generator"]
    files = ["--picture", str(tmp_path / "a.png"), "--json", str(tmp_path / "a.json")]
    result = CliRunner().invoke(main, [*few, *files])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "a.json").read_text())["figures"]
    assert figures.keys() == ways(2, 2).keys()
    assert "weighted" in figures["ais_hmc"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
