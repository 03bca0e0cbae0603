"""The energy network of CF-EBM: a trunk that grows a block a stage (Table 6 of the paper).

The network is split in two. :class:`Energy` holds what is learned: raw kernels under spectral normalisation or an
equalised learning rate. Its :meth:`~Energy.effective` gives the plain kernels that these stand for, and
:func:`value` is the network as a function of plain kernels. A chain of many steps, and all of serving, therefore
compute the normalisation once, and every convolution that is followed by a pooling as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers import pooled_kernel
from models.networks.normalised import Convolution, Equalised
from models.systems.cfebm.config import NetworkConfig

Kernels: TypeAlias = Mapping[str, Tensor]
"""Plain weights and biases of the convolutions, by name."""

BASE = 4
"""Pixels of the side at which the trunk ends."""

_SWISH = 1.1

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "swish": lambda x: F.silu(x) / _SWISH,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "relu": F.relu,
}


class Energy(nn.Module):
    """What is learned of f = -E for images of up to ``size`` pixels.

    Args:
        config: widths, activation, normalisation.
        channels: of the images.
        sizes: the resolutions at which images may enter, ascending from 8.
    """

    def __init__(self, config: NetworkConfig, channels: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.channels, self.sizes = config, channels, sizes
        top = config.width(BASE)
        # Blocks come last, so that a grown network's parameters extend those of the one before.
        layers: dict[str, nn.Module] = {
            "top_first": Convolution(top, top, 3, config.spectral),
            "top_second": Convolution(top, top, BASE, config.spectral),
            "head": Equalised(top, 1),
        }
        for size in sizes:
            wide, narrow = config.width(size), config.width(size // 2)
            layers[f"rgb{size}"] = Equalised(channels, wide)
            layers[f"first{size}"] = Convolution(wide, narrow, 3, config.spectral)
            layers[f"second{size}"] = Convolution(narrow, narrow, 3, config.spectral)
            if config.residual:
                layers[f"skip{size}"] = Equalised(wide, narrow)
        self.layers = nn.ModuleDict(layers)

    def grow(self, size: int) -> Energy:
        """A network with one more block below, its other parameters and singular vectors those of this one."""
        grown = Energy(self.config, self.channels, (*self.sizes, size))
        grown.load_state_dict(self.state_dict(), strict=False)
        return grown.to(next(self.parameters()).device)

    def effective(self) -> dict[str, Tensor]:
        """The plain kernels, with gradients to the parameters; in training mode one power iteration each.

        ``first*``, ``second*`` (3x3, before its pooling), ``skip*``, ``rgb*``, ``top_*`` and ``head``, each as
        ``NAME.weight`` and ``NAME.bias``.
        """
        plain: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            assert isinstance(layer, Equalised | Convolution)
            plain[f"{name}.weight"], plain[f"{name}.bias"] = layer.plain()
        return plain

    def largest_singular_value(self) -> Tensor:
        """That of any kernel, ``[]``; not a number's business while weights are not finite, so those count as 0."""
        return torch.stack(list(self.singular_values().values())).amax()

    def singular_values(self) -> dict[str, Tensor]:
        """The largest singular value of each 3x3 and 4x4 kernel as it is used, seen as ``[out, in * k * k]``.

        Leaves the network in evaluation mode: to look at a kernel in training mode would be a power iteration.
        """
        self.eval()
        with torch.no_grad():
            kernels = {
                name: layer.weight.flatten(1) for name, layer in self.layers.items() if isinstance(layer, Convolution)
            }
            return {name: torch.linalg.eigvalsh((w @ w.T).nan_to_num())[-1].sqrt() for name, w in kernels.items()}


def fuse(plain: Kernels) -> dict[str, Tensor]:
    """Kernels for :func:`value`: each ``second*`` with the pooling that follows it, as one 4x4 kernel of stride 2.

    A 3x3 convolution and the mean of 2x2 pixels are one 4x4 convolution of stride 2 and padding 1, whose kernel is the
    mean of the four shifts of the 3x3 kernel by one pixel.
    """
    fused = dict(plain)
    for name, kernel in plain.items():
        if name.startswith("second") and name.endswith("weight"):
            fused[name] = pooled_kernel(kernel)
    return fused


def fold(fused: Kernels, size: int) -> dict[str, Tensor]:
    """Fused kernels for images that enter at ``size`` pixels with the newest block all there, without ``rgb``.

    A 1x1 convolution is linear, so it can be part of what follows. The block's first convolution then takes the image
    and a channel of ones, which carries the 1x1 bias exactly at the padded border too, and ``skip`` is a 2x2
    convolution of stride 2. That is less work, and gives the same bits at more batch sizes: the gradient of a 1x1
    convolution of one channel is summed in another order in small batches.
    """
    matrix, bias = fused[f"rgb{size}.weight"].flatten(1), fused[f"rgb{size}.bias"]
    folded = {name: kernel for name, kernel in fused.items() if not name.startswith("rgb")}
    first = fused[f"first{size}.weight"]
    image, ones = torch.einsum("owhk,wc->ochk", first, matrix), torch.einsum("owhk,w->ohk", first, bias)
    folded[f"first{size}.weight"] = torch.cat([image, ones[:, None]], 1)
    if f"skip{size}.weight" in fused:
        skip = fused[f"skip{size}.weight"].flatten(1)
        folded[f"skip{size}.weight"] = ((skip @ matrix) / 4)[..., None, None].expand(-1, -1, 2, 2).contiguous()
        folded[f"skip{size}.bias"] = fused[f"skip{size}.bias"] + skip @ bias
    return folded


def value(kernels: Kernels, images: Tensor, *, activation: str = "swish", alpha: float = 1.0) -> Tensor:
    r"""f of images ``[n, C, R, R]``, entered at resolution R: ``[n]``.

    .. math:: h = \alpha\, b_R(rgb_R(x)) + (1 - \alpha)\, rgb_{R/2}(pool(x)), \quad f(x) = trunk_{R/2}(h)

    with the expand block :math:`b_R(x) = (skip(pool(x)) + act(pool(conv(act(conv(x))))))/\sqrt 2`. At alpha = 1 the
    fade path is left out.

    Args:
        kernels: what :func:`fuse` gave; or :func:`fold`, for this R and alpha 1.
        activation: a name of ``ACTIVATIONS``.
        alpha: how far the block of resolution R is faded in; needs R > 8 if below 1.
    """
    act = ACTIVATIONS[activation]
    size = images.shape[-1]
    if f"rgb{size}.weight" in kernels:
        h = _block(kernels, size, _mix(kernels, f"rgb{size}", images), act)
    else:
        h = _folded_block(kernels, size, images, act)
    if alpha < 1:
        h = torch.lerp(_mix(kernels, f"rgb{size // 2}", F.avg_pool2d(images, 2)), h, alpha)
    while (size := size // 2) > BASE:
        h = _block(kernels, size, h, act)
    h = act(_conv(kernels, "top_first", h, padding=1))
    h = act(_conv(kernels, "top_second", h))
    # In float32 under autocast too: the value is a difference of large sums.
    return (h.flatten(1).float() * kernels["head.weight"].flatten()).sum(1) + kernels["head.bias"]


def _conv(kernels: Kernels, name: str, x: Tensor, *, stride: int = 1, padding: int = 0) -> Tensor:
    return F.conv2d(x, kernels[f"{name}.weight"], kernels[f"{name}.bias"], stride, padding)


def _mix(kernels: Kernels, name: str, x: Tensor) -> Tensor:
    """A 1x1 convolution, as a product of matrices: as fast, and its bits are the same in batches of any size."""
    weight, bias = kernels[f"{name}.weight"].flatten(1), kernels[f"{name}.bias"]
    return (weight @ x.flatten(2)).unflatten(2, x.shape[2:]) + bias[:, None, None]


def _block(kernels: Kernels, size: int, x: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    h = act(_conv(kernels, f"first{size}", x, padding=1))
    h = act(_conv(kernels, f"second{size}", h, stride=2, padding=1))
    if f"skip{size}.weight" not in kernels:
        return h
    # Pooling and a 1x1 convolution commute; pooled first it costs a quarter.
    return (_mix(kernels, f"skip{size}", F.avg_pool2d(x, 2)) + h) / math.sqrt(2)


def _folded_block(kernels: Kernels, size: int, images: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    with_ones = F.pad(images, (0, 0, 0, 0, 0, 1), value=1.0)
    h = act(_conv(kernels, f"first{size}", with_ones, padding=1))
    h = act(_conv(kernels, f"second{size}", h, stride=2, padding=1))
    if f"skip{size}.weight" not in kernels:
        return h
    return (_conv(kernels, f"skip{size}", images, stride=2) + h) / math.sqrt(2)
