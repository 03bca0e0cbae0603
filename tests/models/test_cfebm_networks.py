"""The energy network of CF-EBM: fading, fusing, normalisation, and the numbers of parameters of the paper."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.networks.normalised import Equalised
from models.systems.cfebm.config import Config, NetworkConfig
from models.systems.cfebm.energies import restore
from models.systems.cfebm.fit import EnergyFit
from models.systems.cfebm.networks import Energy, fold, fuse, value
from models.training.configuration import configure
from tests.models.zoo import CPU, images

NETWORK = NetworkConfig(c=4, full_below=16)
SIZES = (8, 16, 32)


@pytest.fixture
def net() -> Energy:
    torch.manual_seed(3)
    return Energy(NETWORK, 3, SIZES).eval()


def kernels_of(net: Energy) -> dict[str, Tensor]:
    with torch.no_grad():
        return fuse(net.effective())


def picture(size: int, n: int = 4) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def gradient(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(f(x).sum(), x)
    return found


def as_printed(net: Energy, x: Tensor) -> Tensor:
    """f as the paper draws its blocks, with the parametrised weights: each convolution, then its pooling."""

    def conv(name: str, x: Tensor, padding: int = 0) -> Tensor:
        layer = net.layers[name]
        weight = layer.weight
        if isinstance(layer, Equalised):
            weight = weight * math.sqrt(2 / weight.shape[1])  # type: ignore[operator]
        return F.conv2d(x, weight, layer.bias, padding=padding)  # type: ignore[arg-type]

    def act(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x) / 1.1

    size = x.shape[-1]
    h = conv(f"rgb{size}", x)
    while size > 4:
        main = act(F.avg_pool2d(conv(f"second{size}", act(conv(f"first{size}", h, 1)), 1), 2))
        h = (F.avg_pool2d(conv(f"skip{size}", h), 2) + main) / math.sqrt(2)
        size //= 2
    h = act(conv("top_second", act(conv("top_first", h, 1))))
    return conv("head", h).flatten()


def test_a_new_block_of_weight_zero_leaves_the_coarse_energy(net: Energy) -> None:
    kernels, x = kernels_of(net), picture(32)
    coarse = F.avg_pool2d(x, 2)
    torch.testing.assert_close(value(kernels, x, alpha=0), value(kernels, coarse), rtol=1e-6, atol=1e-7)
    fine = gradient(lambda x: value(kernels, x, alpha=0), x)
    expected = F.interpolate(gradient(lambda x: value(kernels, x), coarse), scale_factor=2.0) / 4
    assert (fine - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_a_block_that_is_all_there_does_not_ask_for_the_fade_path(net: Energy) -> None:
    kernels, x = kernels_of(net), picture(32)
    noisy = {**kernels, "rgb16.weight": torch.randn_like(kernels["rgb16.weight"])}
    assert torch.equal(value(noisy, x), value(kernels, x))
    assert not torch.allclose(value(noisy, x, alpha=0.5), value(kernels, x, alpha=0.5), atol=1e-3)


def test_what_enters_the_trunk_is_affine_in_alpha(net: Energy) -> None:
    """Shown by a trunk that is linear there: with great biases the rectifier never cuts."""
    kernels = {name: kernel.double() for name, kernel in kernels_of(net).items()}
    for name in ("first16", "second16", "first8", "second8", "top_first", "top_second"):
        kernels[f"{name}.bias"] = kernels[f"{name}.bias"] + 20
    x = picture(32).double()
    none, half, all_of_it = (value(kernels, x, activation="relu", alpha=alpha) for alpha in (0, 0.5, 1))
    torch.testing.assert_close(half, (none + all_of_it) / 2, rtol=0, atol=2e-5)  # the head sums in float32
    assert (none - all_of_it).abs().min() > 1e-3


def test_pooling_and_a_1x1_convolution_commute() -> None:
    layer, x = Equalised(6, 5), torch.randn(3, 6, 16, 16)
    weight, bias = (part.detach() for part in layer.plain())
    first, last = F.conv2d(F.avg_pool2d(x, 2), weight, bias), F.avg_pool2d(F.conv2d(x, weight, bias), 2)
    torch.testing.assert_close(first, last, atol=1e-6 * float(last.abs().max()), rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_plain_and_fused_kernels_are_the_network_as_printed(net: Energy, size: int) -> None:
    x = picture(size)
    with torch.no_grad():
        expected = as_printed(net, x)
        torch.testing.assert_close(value(kernels_of(net), x), expected, atol=1e-5, rtol=1e-5)
    mine = gradient(lambda x: value(kernels_of(net), x), x)
    torch.testing.assert_close(mine, gradient(lambda x: as_printed(net, x), x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_1x1_convolutions_fold_into_what_follows(channels: int) -> None:
    torch.manual_seed(2)
    net = Energy(NetworkConfig(c=4, full_below=8), channels, SIZES).eval().requires_grad_(False)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):  # they begin at 0, and the border of the image must feel them
            parameter.add_(torch.randn_like(parameter))
    fused = fuse(net.effective())
    for size in SIZES:
        x = torch.rand(3, channels, size, size) * 2 - 1
        folded = fold(fused, size)
        torch.testing.assert_close(value(folded, x), value(fused, x), atol=1e-5, rtol=1e-5)
        mine, expected = (gradient(lambda x, k=kernels: value(k, x), x) for kernels in (folded, fused))
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("growth", ["chained", "single"])
def test_a_checkpoint_holds_the_energies_as_they_were_trained(growth: str) -> None:
    config = configure("cfebm", "tiny", images(), {"growth": growth})
    assert isinstance(config, Config)
    fit = EnergyFit(config, 1, CPU)
    assert fit.leave_stage()
    with torch.no_grad():
        for parameter in fit.live.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    tensors = fit.export()
    nets = [*fit.frozen, fit.live]
    assert {name.split(".")[0] for name in tensors} == ({"net8", "net16"} if growth == "chained" else {"net16"})
    for stage, net in zip((0, 1)[-len(nets) :], nets, strict=True):
        size = config.stages[stage].size
        x = picture(size)[:, :1]
        with torch.no_grad():
            expected = as_printed(net.eval(), x)
        torch.testing.assert_close(restore(config, stage, tensors, CPU).f(x), expected, atol=1e-5, rtol=1e-5)


def test_tensors_of_another_network_are_refused() -> None:
    config = configure("cfebm", "tiny", images(), {"growth": "single"})
    other = configure("cfebm", "tiny", images(), {"growth": "single", "network.c": 2})
    assert isinstance(config, Config)
    assert isinstance(other, Config)
    fit = EnergyFit(other, 1, CPU)
    with pytest.raises(ValueError, match="net16 does not fit its configuration; first mismatch: "):
        restore(config, 1, fit.export(), CPU)  # it has not grown yet
    fit.leave_stage()
    with pytest.raises(ValueError, match="net16 does not fit its configuration; first mismatch: first16"):
        restore(config, 1, fit.export(), CPU)


def test_kernels_are_normalised_before_the_first_update() -> None:
    torch.manual_seed(0)
    net = Energy(NetworkConfig(c=16, full_below=8), 3, SIZES)
    found = net.eval().singular_values()
    assert found.keys() == {f"{part}{size}" for part in ("first", "second") for size in SIZES} | {
        "top_first",
        "top_second",
    }
    assert all(float(sigma) == pytest.approx(1, abs=0.02) for sigma in found.values())


def test_without_warm_up_the_first_chain_would_run_under_huge_kernels() -> None:
    torch.manual_seed(0)
    net = Energy(NetworkConfig(c=16, full_below=8), 3, (8,))
    raw = net.layers["first8"].parametrizations.weight.original.detach().flatten(1)  # type: ignore[union-attr]
    u, v = F.normalize(torch.randn(len(raw)), dim=0), F.normalize(torch.randn(raw.shape[1]), dim=0)
    unwarmed = raw / (u @ raw @ v).abs()
    assert torch.linalg.matrix_norm(unwarmed, 2) > 10


def test_normalisation_can_be_left_out() -> None:
    torch.manual_seed(0)
    net = Energy(NetworkConfig(c=16, full_below=8, spectral=False), 3, (8,))
    assert all(abs(sigma - 1) > 0.02 for sigma in net.singular_values().values())


def test_looking_at_a_network_does_not_change_it(net: Energy) -> None:
    """A power iteration moves the singular vectors; there is one for each forward pass in training mode alone."""
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.effective()
    net.train().singular_values()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    net.train().effective()
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.endswith(("_u", "_v")) for name in moved)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (NetworkConfig(c=32), {8: 722_177, 16: 1_033_857, 32: 1_345_537, 64: 1_575_041}),
        (NetworkConfig(c=16, full_below=8), {8: 180_865, 16: 238_273, 32: 252_641, 64: 256_241}),
    ],
)
def test_the_numbers_of_parameters_in_use(network: NetworkConfig, expected: dict[int, int]) -> None:
    found = {}
    for count, size in enumerate(expected, start=1):
        sizes = tuple(8 << k for k in range(count))
        unused = tuple(f"layers.rgb{coarse}." for coarse in sizes[:-1])
        named = Energy(network, 3, sizes).named_parameters()
        found[size] = sum(p.numel() for name, p in named if not unused or not name.startswith(unused))
    assert found == expected


def test_widths_halve_above_the_full_ones() -> None:
    assert [NetworkConfig(c=32).width(size) for size in (4, 8, 32, 64, 128, 256, 512)] == [128, 128, 128, 64, 32, 16, 8]
    small = NetworkConfig(c=16, full_below=8)
    assert [small.width(size) for size in (4, 8, 16, 32, 64)] == [64, 64, 32, 16, 8]


@pytest.mark.parametrize("activation", ["swish", "leaky_relu", "relu"])
def test_a_network_without_skips_works_with_every_activation(activation: str) -> None:
    plain = NetworkConfig(c=4, full_below=8, activation=activation, residual=False)  # type: ignore[arg-type]
    kernels = kernels_of(Energy(plain, 3, (8, 16)).eval())
    assert not any(name.startswith("skip") for name in kernels)
    slopes = gradient(lambda x: value(kernels, x, activation=activation, alpha=0.5), picture(16))
    assert slopes.isfinite().all()
    assert slopes.abs().max() > 0
