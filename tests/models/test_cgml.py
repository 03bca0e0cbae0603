"""The networks of cGML, its walk in the latent, and what each part of an iteration may change."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.core.loop import Rows
from models.core.noise import Noise, streams
from models.samplers.domains import Box, Sphere
from models.samplers.predicted import pushes, walk_rows, walking
from models.systems.cgml.images.presets import SMALL_32, SMALL_64, paper_network
from models.systems.cgml.networks import ImageEncoder, ImageGenerator, NetworkConfig
from models.systems.cgml.predictor import Predictor

WIDE = NetworkConfig(stem=(64, 128, 256, 512, 1024), bottleneck=4000, latent=32, hidden=512, norm="batch")
SIZES = [
    (paper_network(32), 3, (33_435_840, 679_299, 2_371_083)),
    (paper_network(64), 3, (68_302_528, 2_822_019, 4_474_385)),
    (paper_network(128), 3, (68_368_192, 2_953_219, 4_490_785)),
    (paper_network(256), 3, (72_563_520, 7_541_763, 4_523_585)),
    (WIDE, 3, (142_230_208, 11_408_259, 8_685_089)),
    (SMALL_32, 1, (689_472, 174_785, 281_483)),
    (SMALL_64, 3, (1_477_312, 460_739, 598_801)),
]


@pytest.mark.parametrize(("config", "channels", "counts"), SIZES)
def test_networks_have_the_paper_s_parameters(config: NetworkConfig, channels: int, counts: tuple[int, ...]) -> None:
    with torch.device("meta"):
        networks = ImageEncoder(config, channels), ImageGenerator(config, channels), Predictor(config)
        code = networks[0](torch.empty(2, channels, config.side, config.side))
        image = networks[1](code.h, torch.empty(2, config.latent), code.skips)
    assert tuple(sum(p.numel() for p in network.parameters()) for network in networks) == counts
    assert code.vector.shape == (2, config.bottleneck)
    assert image.shape == (2, channels, config.side, config.side)


def test_latents_of_the_paper_grow_with_the_images() -> None:
    assert [paper_network(size).latent for size in (32, 64, 128, 256)] == [10, 16, 32, 64]


def test_the_kept_first_layer_gives_the_whole_predictor() -> None:
    torch.manual_seed(1)
    predictor = Predictor(SMALL_32)
    nn.init.normal_(predictor.displacement.weight)
    h, z = torch.randn(4, *SMALL_32.code), torch.randn(4, SMALL_32.latent)
    x = torch.cat([h.flatten(1), z], 1)
    hidden = nn.functional.leaky_relu(predictor.second(nn.functional.leaky_relu(predictor.first(x), 0.2)), 0.2)
    delta, rho = predictor.moves(z, predictor.given(h))
    torch.testing.assert_close(delta, predictor.displacement(hidden), atol=1e-5, rtol=0)
    torch.testing.assert_close(rho, nn.functional.softplus(predictor.length(hidden))[:, 0], atol=1e-5, rtol=0)


# One step


def step(z: Tensor, delta: Tensor, rho: Tensor, *, t: int = 0, pushed: int = 1, alpha: float = 1.0) -> Rows:
    kernel = walking(lambda rows: (delta, rho), Sphere())
    at = torch.full((len(z),), t)
    return kernel(walk_rows(z, alpha=alpha, pushed=pushed), at, Noise.at(streams(range(len(z)), 0), at))


def on_the_sphere(n: int, d: int) -> Tensor:
    return Sphere().start(Noise.at(streams(range(n), 9), torch.zeros(n, dtype=torch.int64)), d)


def test_a_push_turns_by_the_angle_of_its_length_and_stays_on_the_sphere() -> None:
    z, rho = on_the_sphere(5, 6), torch.full((5,), 0.3)
    delta = Sphere().tangent(z, on_the_sphere(5, 6).flip(0))
    moved = step(z, delta, rho, alpha=2.0)["z"]
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(5), atol=1e-6, rtol=0)
    angles = (moved * z).sum(1).clamp(-1, 1).acos()
    torch.testing.assert_close(angles, torch.full((5,), math.atan(0.6)), atol=1e-5, rtol=0)


def test_where_opposite_moves_cancel_a_row_is_pushed_by_its_own_noise() -> None:
    z, eta = on_the_sphere(4, 6), 0.2
    delta, rho = -(1 - math.cos(eta)) * z, torch.full((4,), 2 * math.sin(eta / 2))
    rows = step(z, delta, rho)
    angles = (rows["z"] * z).sum(1).clamp(-1, 1).acos()
    torch.testing.assert_close(angles, torch.full((4,), math.atan(float(rho[0]))), atol=1e-4, rtol=0)
    torch.testing.assert_close(rows["z"], step(z, delta, rho)["z"], atol=0, rtol=0)
    assert not torch.allclose(rows["z"], step(z, delta, rho, t=1, pushed=2)["z"], atol=1e-3)
    assert rows["kappa"].max() < 1e-5


def test_a_row_that_has_arrived_stays_bit_for_bit() -> None:
    z = on_the_sphere(4, 6)
    for t in (0, 5):
        assert torch.equal(step(z, torch.zeros_like(z), torch.zeros(4), t=t)["z"], z)


def test_after_the_pushes_a_row_moves_by_the_displacement_itself() -> None:
    z, delta = on_the_sphere(3, 6), 0.01 * on_the_sphere(3, 6).flip(0)
    moved = step(z, delta, torch.ones(3), t=1)["z"]
    expected = nn.functional.normalize(z + Sphere().tangent(z, delta), dim=1)
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)


def test_kappa_tells_how_far_moves_agree() -> None:
    """One direction of the angle eta: the chord is 2 sin(eta / 2), its tangent part sin eta."""
    z, eta = on_the_sphere(1, 6), 0.4
    u = nn.functional.normalize(Sphere().tangent(z, torch.ones(1, 6)), dim=1)
    delta = math.cos(eta) * z + math.sin(eta) * u - z
    kappa = step(z, delta, torch.tensor([2 * math.sin(eta / 2)]))["kappa"]
    assert float(kappa) == pytest.approx(math.cos(eta / 2), abs=1e-5)


def test_rows_of_a_batch_have_each_the_length_one() -> None:
    """Dividing by the norm of the whole batch, as the authors' code does, gives 1 / sqrt(20) = 0.2236."""
    g = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    assert float((g / g.norm()).norm(dim=1).square().mean().sqrt()) == pytest.approx(0.2236, abs=1e-4)
    torch.testing.assert_close(Sphere().retract(g).norm(dim=1), torch.ones(20), atol=1e-6, rtol=0)


def test_a_box_holds_its_rows() -> None:
    box, keys = Box(0.1), Noise.at(streams(range(200), 0), torch.zeros(200, dtype=torch.int64))
    z = box.start(keys, 1)
    assert -0.1 <= z.min() < -0.09
    assert 0.09 < z.max() <= 0.1
    assert torch.equal(box.retract(z + 1), torch.full_like(z, 0.1))
    assert set(box.kick(z, keys).flatten().tolist()) == {-1.0, 1.0}


def test_the_way_of_a_row_is_noted() -> None:
    z = on_the_sphere(2, 4)
    kernel = walking(lambda rows: (0.1 * torch.ones(2, 4), torch.full((2,), 0.1)), Sphere())
    rows, seen = walk_rows(z, alpha=1.0, pushed=2, every=2), []
    for t in range(4):
        at = torch.full((2,), t)
        rows = kernel(rows, at, Noise.at(streams(range(2), 0), at))
        seen.append(rows["z"])
    assert torch.equal(rows["way"][:, 0], seen[1])
    assert torch.equal(rows["way"][:, 1], seen[3])
    assert not rows["way"][:, 2:].any()


def test_the_momentum_of_the_paper_pushes_in_every_step() -> None:
    assert [pushes(name, 20) for name in ("push_settle", "off", "eq4")] == [10, 0, 20]
