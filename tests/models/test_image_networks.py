"""Image-conditional CCoopNets: sizes as in the paper, and how they are trained."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.core.model import LoadedModel
from models.core.noise import Key, Noise
from models.data.images import ImageData
from models.networks.layers import PooledConv2d, Upsampling
from models.networks.unet import UNet
from models.systems.ccoopnets.images import networks
from models.systems.ccoopnets.images.config import IMAGE_PRESETS
from models.systems.ccoopnets.images.networks import PairSolver
from models.systems.ccoopnets.images.problem import ImageProblem
from models.training.configuration import configure
from tests.models.image_models import (
    CPU,
    OVERRIDES,
    layer_sizes,
    line_art,
    pairs,
    parameters,
    trainer_of,
)

# Sizes


def test_the_papers_u_net_has_the_papers_layers() -> None:
    with torch.device("meta"):
        network = networks.unet(IMAGE_PRESETS["paper-facades"])
    encoder = [(3, 64), (64, 128), (128, 256), (256, 512), *[(512, 512)] * 4]
    decoder = [(512, 512), *[(1024, 512)] * 3, (1024, 256), (512, 128), (256, 64), (128, 3)]
    assert layer_sizes(network) == encoder + decoder
    assert len(network.mask_shapes) == 7
    assert [shape[1] for shape in network.mask_shapes] == [2, 4, 8, 16, 32, 64, 128]
    convolutions = sum(16 * a * b + b for a, b in encoder + decoder)
    # Norms with gain and bias, but none on the first stage nor below 4x4 (two encoder stages, one decoder stage).
    norms = 2 * (128 + 256 + 512 * 3) + 2 * (512 * 3 + 256 + 128 + 64)
    assert parameters(network) == convolutions + norms == 54_417_411


def test_the_papers_solver_has_the_papers_layers() -> None:
    with torch.device("meta"):
        network = PairSolver(IMAGE_PRESETS["paper-facades"])
    convolutions = (25 * 6 * 64 + 64) + (9 * 64 * 128 + 128) + (9 * 128 * 256 + 256)
    assert network.head.weight.numel() == 104_857_600  # 256 channels of 64x64, a hundred outputs
    assert parameters(network) == convolutions + 104_857_600 + 100


def test_the_small_networks_have_the_sizes_of_their_layers() -> None:
    config = IMAGE_PRESETS["small-emoji"]
    encoder = [(1, 48), (48, 96), (96, 160), (160, 160), (160, 160)]
    decoder = [(160, 160), (320, 160), (320, 96), (192, 48), (96, 32)]
    norms = 2 * (96 + 160 + 160) + 2 * (160 + 160 + 96 + 48)
    finish = (9 * 33 * 32 + 32) + (9 * 32 * 32 + 32) + (9 * 32 * 3 + 3)
    expected = sum(16 * a * b + b for a, b in encoder) + sum(9 * a * b + b for a, b in decoder) + norms + finish
    assert parameters(networks.unet(config)) == expected
    solver = [(4, 32), (32, 64), (64, 128)]
    assert parameters(PairSolver(config)) == sum(9 * a * b + b for a, b in solver) + 128 * 100 + 100


@pytest.mark.parametrize("preset", ["small-emoji", "small-inpaint"])
def test_the_small_networks_fit_a_small_file(preset: str) -> None:
    config = IMAGE_PRESETS[preset]
    assert 4 * (parameters(networks.unet(config)) + parameters(PairSolver(config))) < 25e6


# The initializer


def test_the_dropout_masks_are_the_noise_of_each_row(translator: LoadedModel) -> None:
    c = line_art(1).expand(3, 1, 64, 64)
    numbers = {"eta": torch.ones(3, 1, 1, 1)}
    keys = [Key(1, 0, 0), Key(2, 0, 0), Key(1, 0, 0)]
    y = translator.kernels.propose({"c": c, **numbers}, torch.zeros(3), Noise(keys))["y"]
    assert torch.equal(y[0], y[2])
    assert (y[0] - y[1]).abs().mean() > 1e-3
    half = translator.kernels.propose({"c": c[:1], "eta": numbers["eta"][:1]}, torch.zeros(1), Noise(keys[:1]))["y"]
    torch.testing.assert_close(half, y[:1], atol=1e-5, rtol=0)


def unet(**changes: object) -> UNet:
    """A small U-Net of fixed weights, with dropout in two stages."""
    config = IMAGE_PRESETS["small-emoji"]
    changed = {"widths": (8, 8, 16, 16), "dropout_stages": 2, **changes}
    torch.manual_seed(0)
    return networks.unet(
        config.model_copy(update={"initializer": config.initializer.model_copy(update=changed)})
    ).eval()


def test_a_mask_below_one_half_keeps_an_activation() -> None:
    network, c = unet(dropout="activation"), torch.rand(1, 1, 64, 64)
    kept, dropped = ([torch.full((1, *shape), u) for shape in network.mask_shapes] for u in (0.499, 0.5))
    norm = network.up_norms[0]
    assert isinstance(norm, torch.nn.InstanceNorm2d)
    with torch.no_grad():
        first, without = network(c, kept), network(c, [dropped[0], kept[1]])
        norm.weight *= 2
        norm.bias *= 2
        assert not torch.allclose(network(c, kept), first)
        assert torch.equal(network(c, [dropped[0], kept[1]]), without)  # however large it is, it is dropped


def test_the_dropout_of_channels_is_that_of_all_their_activations() -> None:
    whole, single, c = unet(dropout="channel"), unet(dropout="activation"), torch.rand(2, 1, 64, 64)
    assert whole.mask_shapes == [(channels, 1, 1) for channels, _, _ in single.mask_shapes]
    masks = [torch.rand(2, *shape) for shape in whole.mask_shapes]
    spread = [mask.expand(-1, *shape) for mask, shape in zip(masks, single.mask_shapes, strict=True)]
    with torch.no_grad():
        torch.testing.assert_close(whole(c, masks), single(c, spread))
        assert not torch.allclose(whole(c, masks), whole(c, [1 - mask for mask in masks]))


# Training


def test_the_initializers_loss_is_the_stated_one() -> None:
    problem = ImageProblem(configure("ccoopnets", "small-emoji", pairs(), OVERRIDES), pairs(), 0, CPU)
    batch = problem.batch(0, 0)
    proposal, refined = batch.y + 0.1, batch.y + 0.3
    expected = 0.8 * 0.04 / (2 * 0.09) + 5 * 0.1
    assert float(problem.initializer_loss(proposal, refined, batch)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_an_inpainting_counts_hidden_pixels_alone() -> None:
    problem = ImageProblem(configure("ccoopnets", "small-inpaint", pairs(), OVERRIDES), pairs(), 0, CPU)
    batch = problem.batch(0, 0)
    hidden = batch.extra["mask"]
    assert 0.05 < float(hidden.mean()) < 0.6
    proposal, refined = batch.y + 0.1 * hidden, batch.y + 0.3 * hidden
    expected = 0.8 * 0.04 / (2 * 0.09) + 5 * 0.1
    assert float(problem.initializer_loss(proposal, refined, batch)) == pytest.approx(expected, rel=1e-5)
    visible = hidden.expand_as(batch.y) == 0
    assert torch.equal(batch.c[:, :3][visible], batch.y[visible])
    assert not batch.c[:, :3][~visible].any()


@pytest.mark.parametrize("preset", ["small-emoji", "small-inpaint"])
def test_a_resumed_training_goes_on_as_if_unbroken(preset: str) -> None:
    whole, broken = trainer_of(preset), trainer_of(preset)
    for iteration in range(3):
        expected = whole.step(iteration, 1.0, 0)
    broken.step(0, 1.0, 0)
    resumed = trainer_of(preset)
    resumed.load_state(broken.state())
    for iteration in (1, 2):
        found = resumed.step(iteration, 1.0, 0)
    assert found == pytest.approx(expected, rel=1e-5)
    assert resumed.samples().shape == (8, 4, 3, 64, 64)


def test_image_and_condition_are_shifted_and_mirrored_alike() -> None:
    data = pairs()
    data = ImageData(data.images, None, (), "same", data.images[:, :1].clone())
    problem = ImageProblem(configure("ccoopnets", "small-emoji", data, OVERRIDES), data, 0, CPU)
    batches = [problem.batch(k, 0) for k in range(4)]
    for batch in batches:
        assert torch.equal(batch.y[:, :1], batch.c)
    assert torch.equal(problem.batch(2, 0).y, batches[2].y)
    assert not torch.equal(problem.batch(2, 1).y, batches[2].y)


# Pooling within the weights


def test_a_pooled_convolution_is_a_convolution_and_a_mean() -> None:
    layer, x = PooledConv2d(3, 5).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = F.avg_pool2d(F.conv2d(x, layer.weight, layer.bias, padding=1), 2)
    torch.testing.assert_close(layer(x), expected)


def test_an_upsampling_repeats_pixels_and_convolves() -> None:
    layer, x = Upsampling(3, 5).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)


def test_a_local_solver_is_a_sum_over_places() -> None:
    solver = PairSolver(IMAGE_PRESETS["small-emoji"])
    y, c = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    h = torch.cat([y, c], 1)
    for layer in solver.layers:
        h = F.silu(layer(h))
    assert h.shape == (2, 128, 8, 8)
    bias = solver.head.bias.sum()
    places = [solver.head(h[:, :, i, j]).sum(1) - bias for i in range(8) for j in range(8)]
    torch.testing.assert_close(solver(y, c), sum(places) + bias, atol=1e-5, rtol=1e-5)


def test_noise_on_the_instances_changes_the_solvers_update_alone() -> None:
    plain, noisy = (trainer_of("small-emoji", **{"training.instance_noise": std}) for std in (0.0, 0.5))
    first, second = (trainer.step(0, 1.0, 0) for trainer in (plain, noisy))
    assert first["move"] == second["move"]
    assert first["f_data"] != second["f_data"]
    again = trainer_of("small-emoji", **{"training.instance_noise": 0.5}).step(0, 1.0, 0)
    assert again == second
