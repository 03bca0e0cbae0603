"""The networks of a progressive GAN: sizes, scales, fading, and the closed forms of its losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.networks.progressive import (
    Critic,
    Generator,
    Scaled,
    Seed,
    deviation_map,
    doubled,
    faded,
    perceptron,
    pixel_norm,
)
from models.systems.aishmc.losses import critic_terms


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("latent", "size", "base", "most", "generator", "critic"),
    [
        (512, 1024, 8192, 512, 23_079_115, 23_087_249),
        (512, 256, 8192, 512, 23_044_309, 23_052_353),
        (512, 128, 2048, 512, 13_629_810, 13_636_897),
        (64, 32, 512, 64, 278_636, 279_521),
        (64, 64, 512, 64, 285_631, 286_545),
    ],
)
def test_they_have_the_published_parameters(
    latent: int, size: int, base: int, most: int, generator: int, critic: int
) -> None:
    with torch.device("meta"):
        assert count(Generator(latent, 3, size, base, most)) == generator
        assert count(Critic(3, size, base, most)) == critic


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(8, 3, 16, 32, 8).requires_grad_(False)


def test_weights_are_scaled_when_they_are_used() -> None:
    assert Scaled(512, 4, 3).scale == pytest.approx(0.0208333, abs=1e-7)
    assert Seed(512, 4).scale == pytest.approx(1 / 64)
    assert Scaled(16, 3, 1, gain=1).scale == 0.25


def test_the_first_layer_is_a_convolution_of_one_pixel() -> None:
    """A 4x4 kernel on 1x1 with padding 3 reads the kernel backwards; here it lies forwards."""
    seed, z = Seed(5, 7), random(2, 5)
    kernel = (seed.weight * seed.scale).flip(2, 3)
    expected = nn.functional.conv2d(z[:, :, None, None], kernel, seed.bias, padding=3)
    torch.testing.assert_close(seed(z), expected)


def test_activations_start_at_one(generator: Generator) -> None:
    torch.testing.assert_close(pixel_norm(random(4, 8, 3, 3)).square().mean(1), torch.ones(4, 3, 3))
    torch.manual_seed(0)
    out = Scaled(64, 64, 3)(nn.functional.leaky_relu(random(64, 64, 8, 8) * math.sqrt(2), 0.2))
    assert 0.5 < out.var().item() < 4


def test_the_deviation_of_equal_items_is_next_to_nothing() -> None:
    same = random(1, 4, 2, 2).expand(5, -1, -1, -1)
    torch.testing.assert_close(deviation_map(same), torch.full((5, 1, 2, 2), 1e-4))
    pair = torch.tensor([1.0, -1.0])[:, None, None, None].expand(2, 3, 2, 2)
    torch.testing.assert_close(deviation_map(pair), torch.ones(2, 1, 2, 2))


@pytest.mark.parametrize("size", [8, 16])
def test_a_block_is_faded_in(generator: Generator, size: int) -> None:
    z = random(3, 8)
    before, after = doubled(generator(z, size // 2)), generator(z, size)
    torch.testing.assert_close(generator(z, size, 1e-9), before)
    torch.testing.assert_close(generator(z, size, 0.25), 0.75 * before + 0.25 * after)
    assert not torch.allclose(before, after)
    images = random(2, 3, size, size)
    torch.testing.assert_close(faded(images, 0.0), doubled(nn.functional.avg_pool2d(images, 2)))
    assert faded(images, None) is images


def test_the_critic_fades_as_the_generator_does() -> None:
    torch.manual_seed(1)
    critic = Critic(3, 16, 32, 8)
    images = random(4, 3, 16, 16)
    coarse = nn.functional.avg_pool2d(images, 2)
    torch.testing.assert_close(critic(images, 1e-9), critic(coarse))
    assert not torch.allclose(critic(images), critic(coarse))


def test_the_length_of_a_latent_is_not_seen(generator: Generator) -> None:
    z = random(4, 8)
    assert (generator(3 * z) - generator(z)).abs().max() < 1e-4
    z.requires_grad_(True)
    phi = (generator(z) - 0.3).square().sum()
    (g,) = torch.autograd.grad(phi, z)
    assert bool(((z * g).sum(1).abs() < 1e-4 * z.norm(dim=1) * g.norm(dim=1)).all())


@pytest.mark.parametrize("slope", [0.5, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic(slope: float) -> None:
    w = random(12)
    w *= slope / w.norm()
    real, fake = random(6, 3, 2, 2), random(6, 3, 2, 2, seed=1)
    terms = critic_terms(lambda images: images.flatten(1) @ w, real, fake, torch.rand(6, 1, 1, 1))
    assert terms.penalty.item() == pytest.approx((slope - 1) ** 2, abs=1e-5)
    assert terms.distance.item() == pytest.approx(float(((real - fake).flatten(1) @ w).mean()), abs=1e-5)
    assert terms.drift.item() == pytest.approx(float((real.flatten(1) @ w).square().mean()), abs=1e-5)


def test_the_penalty_reaches_the_weights_twice_differentiated() -> None:
    torch.manual_seed(2)
    critic = Critic(1, 8, 16, 8)
    terms = critic_terms(critic, random(4, 1, 8, 8), random(4, 1, 8, 8, seed=1), torch.rand(4, 1, 1, 1))
    terms.penalty.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.first.parameters() if p.dim() > 1)
    assert critic.whole.weight.grad is not None
    assert critic.whole.weight.grad.abs().max() > 0


@pytest.mark.parametrize("size", [2, 12, 48])
def test_sizes_are_powers_of_two(size: int) -> None:
    with pytest.raises(ValueError, match="powers of two"):
        Generator(4, 1, size, 16, 8)


def test_points_take_linear_layers() -> None:
    assert count(perceptron((2, 20, 20, 2))) == 2 * 20 + 20 + 400 + 20 + 40 + 2
    assert isinstance(perceptron((2, 20, 1))[-1], nn.Linear)
