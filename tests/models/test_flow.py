"""Flow++ against closed forms: sizes, coordinates, mixtures, inverses and volumes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zuko.transforms import MonotonicTransform

from models.networks.flow.conditioner import Conditioner
from models.networks.flow.coordinates import MIDDLE, decode, decode_as_published, encode
from models.networks.flow.dequantisation import VariationalDequantisation
from models.networks.flow.flowpp import FlowConfig, FlowPlusPlus
from models.networks.flow.halves import checkerboard, squeeze, uncheckered, unsqueeze
from models.networks.flow.images import ImageFlow, bits_per_dimension
from models.networks.flow.mixture import Mixture, logit, unlogit
from models.networks.flow.steps import ActNorm, Coupling
from models.networks.residual_energy import ResidualEnergy

_TWO = ((0, 4), (2, 3))
PAPER = FlowConfig(
    scales=_TWO, width=96, blocks=10, components=32, attention="all", dropout=0.2, dequantisation="variational"
)
SMALL = FlowConfig(scales=_TWO, width=32, blocks=2, components=8, attention="coarse")
LARGER = FlowConfig(scales=(*_TWO, (2, 3)), width=32, blocks=2, components=8)
TINY = FlowConfig(scales=((0, 2), (2, 2)), width=16, blocks=1, components=4)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("config", "channels", "expected"),
    [
        (PAPER, 3, 28_784_792),
        (SMALL, 3, 747_440),
        (SMALL, 1, 558_848),
        (LARGER, 3, 1_299_568),
        (TINY, 3, 87_840),
        (TINY, 1, 52_352),
    ],
)
def test_flows_have_as_many_parameters_as_published(config: FlowConfig, channels: int, expected: int) -> None:
    with torch.device("meta"):
        assert parameters(ImageFlow(config, channels)) == expected


@pytest.mark.parametrize(
    ("channels", "width", "size", "expected"),
    [
        (3, 128, 32, 45_914_236 - 28_784_792),
        (3, 16, 32, 447_828),
        (1, 16, 32, 447_540),
        (3, 24, 32, 853_132),
        (3, 32, 32, 1_379_396),
        (3, 16, 64, 890_580),
        (3, 8, 32, 163_484),
    ],
)
def test_energies_have_as_many_parameters_as_published(channels: int, width: int, size: int, expected: int) -> None:
    with torch.device("meta"):
        assert parameters(ResidualEnergy(channels, width, size)) == expected


def test_an_energy_takes_the_sizes_that_its_blocks_halve_to_four() -> None:
    assert ResidualEnergy(1, 2, 64)(torch.zeros(3, 1, 64, 64)).shape == (3,)
    with pytest.raises(ValueError, match="power of two"):
        ResidualEnergy(1, 2, 28)


def test_the_head_sums_its_hundred_outputs() -> None:
    network = seeded(lambda: ResidualEnergy(1, 2, 32))
    h = nn.functional.silu(network.first(x := torch.rand(2, 1, 32, 32)))
    for block in network.blocks:
        h = block(h, nn.functional.silu)
    torch.testing.assert_close(network(x), network.head(h).flatten(1).sum(1), rtol=1e-4, atol=1e-4)


# Coordinates


def test_decoding_undoes_encoding_and_the_published_one_loses_contrast() -> None:
    x = torch.linspace(-1, 1, 4097)[None]
    logits, _ = encode(x, MIDDLE)
    assert (decode(logits) - x).abs().max() <= 1e-6
    assert decode_as_published(logits)[0, -1] == pytest.approx(0.9 * 255 / 256, abs=1e-6)


def test_the_slope_of_the_coordinates_is_their_derivative() -> None:
    x = torch.linspace(-1, 1, 41, dtype=torch.float64)[None].requires_grad_(True)
    logits, slope = encode(x, 0.3)
    (by_x,) = torch.autograd.grad(logits.sum(), x)
    assert float(slope.detach()) == pytest.approx(float((by_x * 512 / 255).log().sum()), rel=1e-12)


@pytest.mark.parametrize(("v", "bits"), [(0.5, 7.47775), (1.0, 11.33570), (0.0, 11.33570)])
def test_the_identity_has_known_bits(v: float, bits: float) -> None:
    x = torch.full((1, 3, 8, 8), 2 * v - 1, dtype=torch.float64)
    identity = ImageFlow(FlowConfig(scales=((0, 0),), width=8, blocks=1, components=1), 3)
    found = bits_per_dimension(identity.bound(x, torch.full_like(x, v)), x[0].numel())
    assert float(found) == pytest.approx(bits, abs=1e-4)


# Mixtures


@pytest.mark.parametrize("x", [17.0, 18.0, 25.0, -25.0, 60.0])
def test_the_logit_of_one_component_keeps_its_tails(x: float) -> None:
    one = torch.zeros(1, 1, 1)
    value, slope = logit(torch.full((1, 1), x), Mixture(one, one, one))
    assert float(value) == pytest.approx(x, rel=1e-5)
    assert float(slope) == pytest.approx(0.0, abs=1e-5)


def mixture(dtype: torch.dtype = torch.float64) -> Mixture:
    generator = torch.Generator().manual_seed(4)
    weights, means, log_scales = torch.randn(3, 5, 8, 40, generator=generator, dtype=dtype)
    return Mixture(weights.log_softmax(1), 2 * means, (3 * log_scales).clamp(-7, 2))


def test_the_slope_is_the_derivative_of_the_logit() -> None:
    x = torch.linspace(-6, 6, 200, dtype=torch.float64).view(5, 40).requires_grad_(True)
    value, slope = logit(x, mixture())
    (derivative,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(slope.exp(), derivative)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-3)])
def test_bisection_inverts_the_logit_far_out_in_both_tails(dtype: torch.dtype, tolerance: float) -> None:
    target = torch.linspace(-300, 300, 200, dtype=dtype).view(5, 40)
    value, slope = logit(unlogit(target, mixture(dtype)), mixture(dtype))
    # Where the density is high a rounding of x is a large step of the logit.
    assert ((value - target).abs() / slope.exp().clamp(min=1)).max() < tolerance


# Halves


@pytest.mark.parametrize(("there", "back"), [(checkerboard, uncheckered), (squeeze, unsqueeze)])
def test_halves_are_put_together_again(there: Any, back: Any) -> None:
    x = torch.arange(2 * 3 * 8 * 6.0).view(2, 3, 8, 6)
    assert torch.equal(back(there(x)), x)


def test_a_checkerboard_parts_neighbours_and_a_squeeze_keeps_colours_together() -> None:
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    black, white = checkerboard(((rows + columns) % 2)[None, None]).chunk(2, 1)
    assert black.sum() == 0
    assert white.min() == 1
    colours = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert squeeze(colours)[0, :, 0, 0].tolist() == [0, 1, 2] * 4


# The whole flow


def seeded(make: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make()


def pixels(n: int, channels: int, size: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(8)
    return torch.randn(n, channels, size, size, generator=generator).to(dtype)


def perturbed(config: FlowConfig, channels: int, size: int, dtype: torch.dtype) -> FlowPlusPlus:
    """A flow that fits to data and is not at its start."""
    flow: FlowPlusPlus = seeded(lambda: FlowPlusPlus(config, channels)).to(dtype).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        flow(pixels(16, channels, size, dtype), fit=True)
        for parameter in flow.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator).to(dtype)
    return flow


@pytest.mark.parametrize("attention", ["none", "all"])
def test_the_volume_is_the_determinant_of_the_jacobian(attention: Any) -> None:
    config = TINY.model_copy(update={"attention": attention})
    flow, x = perturbed(config, 3, 8, torch.float64), pixels(1, 3, 8, torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda y: flow(y)[0].flatten(), x).flatten(1)
    sign, expected = torch.linalg.slogdet(jacobian)
    assert abs(sign) == 1
    assert float(flow(x)[1].detach()) == pytest.approx(float(expected), abs=1e-10)


@pytest.mark.parametrize(("dtype", "gate"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_a_small_flow_inverts(dtype: torch.dtype, gate: float) -> None:
    flow, x = perturbed(TINY, 3, 8, dtype), pixels(3, 3, 8, dtype)
    with torch.no_grad():
        assert (flow.inverse(flow(x)[0]) - x).abs().max() < gate


def test_an_inverse_has_the_gradients_of_the_inverse_function() -> None:
    """Through bisections that have none: its Jacobian is the inverse of the flow's."""
    torch.manual_seed(0)
    flow = FlowPlusPlus(TINY, 1).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    z = torch.randn(16, dtype=torch.float64)
    x = flow.inverse(z.view(1, 1, 4, 4)).flatten().detach()
    there = torch.autograd.functional.jacobian(lambda x: flow(x.view(1, 1, 4, 4))[0].flatten(), x)
    back = torch.autograd.functional.jacobian(lambda z: flow.inverse(z.view(1, 1, 4, 4)).flatten(), z)
    torch.testing.assert_close(there @ back, torch.eye(16, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_flow_of_32_pixels_inverts_in_single_precision(channels: int) -> None:
    flow, x = perturbed(SMALL, channels, 32, torch.float32), pixels(2, channels, 32, torch.float32)
    with torch.no_grad():
        assert (flow.inverse(flow(x)[0]) - x).abs().max() < 1e-3


def test_a_norm_that_fits_makes_channels_standard_and_changes_back() -> None:
    norm, x = ActNorm(2).double(), 3 + 2 * pixels(64, 2, 8, torch.float64)
    norm.fit(x)
    y, volume = norm(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(2, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(norm.inverse(y), x)
    assert float(volume.detach()) == pytest.approx(-64 * float(x.std((0, 2, 3)).log().sum()), rel=1e-3)


def test_a_coupling_agrees_with_a_monotonic_transform_of_zuko() -> None:
    """Which differentiates the map itself for its volume, and inverts it by a bisection of its own."""
    parts: Conditioner = seeded(
        lambda: Conditioner(2, width=8, blocks=1, components=4, dropout=0.0, attention=False)
    ).double()
    coupling, x = Coupling(parts), pixels(3, 4, 8, torch.float64)
    with torch.no_grad():
        changed, kept = x.chunk(2, 1)
        a, b, weights = parts(kept)
        y, volume = coupling(x)
        back = coupling.inverse(y)
    oracle = MonotonicTransform(lambda v: (logit(v, weights)[0] + b) * a.exp(), bound=100.0, eps=1e-9)
    expected, slope = oracle.call_and_ladj(changed)
    torch.testing.assert_close(y, torch.cat([expected, kept], 1))
    torch.testing.assert_close(volume, slope.flatten(1).sum(1))
    torch.testing.assert_close(back.chunk(2, 1)[0], oracle.inv(expected), atol=1e-6, rtol=0)


@torch.no_grad()
def test_an_image_flow_proposes_images_once_its_norms_fit() -> None:
    flow = seeded(lambda: ImageFlow(TINY, 1)).eval()
    assert not flow.fitted
    images = pixels(64, 1, 8, torch.float32).clamp(-1, 1)
    flow.fit(images, torch.rand_like(images))
    assert flow.fitted
    z, _ = flow.latent(images)
    assert (flow.propose(z) - images).abs().max() < 1e-4
    assert flow.propose(torch.randn_like(z)).abs().max() <= 1


def test_a_variational_dequantisation_has_the_density_that_it_tells() -> None:
    """Its volume is that of the Jacobian of u by the noise."""
    config = TINY.model_copy(update={"dequantisation": "variational", "components": 2})
    layer: VariationalDequantisation = seeded(lambda: VariationalDequantisation(config, 1)).double().eval()
    x, noise = pixels(1, 1, 4, torch.float64).clamp(-1, 1), pixels(1, 1, 4, torch.float64)
    layer(x, noise, fit=True)
    with torch.no_grad():
        u, log_r = layer(x, noise)
    assert 0 < float(u.min()) < float(u.max()) < 1
    jacobian = torch.autograd.functional.jacobian(lambda y: layer(x, y)[0].flatten(), noise).flatten(1)
    normal = -(noise.square().sum() + noise.numel() * math.log(2 * math.pi)) / 2
    expected = float(normal - torch.linalg.slogdet(jacobian)[1])
    assert float(log_r) == pytest.approx(expected, abs=1e-8)


def test_attention_needs_a_width_that_its_heads_divide() -> None:
    with pytest.raises(ValueError, match="heads"):
        FlowPlusPlus(FlowConfig(scales=((0, 1),), width=12, blocks=1, components=1, attention="all"), 1)


def test_channels_that_are_odd_are_not_halved() -> None:
    with pytest.raises(ValueError, match="can't be halved"):
        FlowPlusPlus(FlowConfig(scales=((1, 1),), width=8, blocks=1, components=1), 1)
