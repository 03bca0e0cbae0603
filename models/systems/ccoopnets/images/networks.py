"""The two networks of image-conditional CCoopNets (section 4.2 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.serving.convolutions import Conv2d, ConvTranspose2d, conv_transpose2d
from models.systems.ccoopnets.images.config import ImageConfig
from models.systems.ccoopnets.labels.networks import ACTIVATIONS, PooledConv2d, convolution, head_value

KEEP = 0.5
"""The share of activations that dropout keeps."""

_SMALLEST_NORMED = 4
"""Instance norm of a map below 4x4 would leave little or nothing of it."""


class UNet(nn.Module):
    """g(X, C; alpha): condition images ``[n, Cc, H, W]`` and dropout masks X to images ``[n, ch, H, W]`` in [-1, 1].

    Encoder: convolution, instance norm (not on the first stage, nor on maps below 4x4), leaky ReLU. Decoder: transposed
    convolution, instance norm, dropout (coarsest stages), skip, ReLU; tanh at the end. The masks come from outside, one
    a row and stage: they are the model's noise, in training and in serving, and a row must not share them.
    """

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        g, size = config.initializer, config.size
        if size % 2 ** len(g.widths):
            raise ValueError(f"{len(g.widths)} stages that halve the image need a multiple of {2 ** len(g.widths)}")
        self.down, self.down_norms = nn.ModuleList(), nn.ModuleList()
        width = config.condition_channels
        for k, out in enumerate(g.widths):
            size //= 2
            self.down.append(Conv2d(width, out, 4, 2, 1))
            self.down_norms.append(_norm(out, size) if k else nn.Identity())
            width = out
        doubling = Upsampling if g.smooth else _transposed
        self.up, self.up_norms = nn.ModuleList(), nn.ModuleList()
        self.mask_shapes: list[tuple[int, int, int]] = []
        for k, out in enumerate(reversed(g.widths[:-1])):
            size *= 2
            self.up.append(doubling(width, out))
            self.up_norms.append(_norm(out, size))
            if k < g.dropout_stages:
                self.mask_shapes.append((out, 1, 1) if g.dropout == "channel" else (out, size, size))
            width = 2 * out
        self.last = doubling(width, g.finish or config.channels)
        self.finish = _finish(g.finish, g.finish_layers, config) if g.finish else None

    def encode(self, c: Tensor) -> list[Tensor]:
        """The condition and the activations of every encoder stage, finest first; the last is the bottleneck."""
        activations, h = [c], c
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            h = F.leaky_relu(norm(conv(h)), 0.2)
            activations.append(h)
        return activations

    def decode(self, activations: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
        """The image of the encoder's activations.

        Args:
            activations: what :meth:`encode` gives.
            masks: for each stage of ``mask_shapes`` uniform numbers in [0, 1), ``[n, *shape]``: an activation is kept
                (and doubled) where its number is below one half.
        """
        c, *skips, h = activations
        h = F.relu(h)
        for k, (conv, norm) in enumerate(zip(self.up, self.up_norms, strict=True)):
            h = norm(conv(h))
            if k < len(masks):
                h = h * ((masks[k] < KEEP) / KEEP).to(h.dtype)
            h = F.relu(torch.cat([h, skips[-1 - k]], 1))
        h = self.last(h)
        if self.finish is not None:
            h = self.finish(torch.cat([F.relu(h), c.to(h.dtype)], 1))
        return torch.tanh(h.float())

    def forward(self, c: Tensor, masks: Sequence[Tensor]) -> Tensor:
        return self.decode(self.encode(c), masks)


class PairSolver(nn.Module):
    """f(Y, C; theta): the value (negative energy) of images ``[n, ch, H, W]`` given conditions ``[n, Cc, H, W]``."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        f = config.solver
        self.activation = ACTIVATIONS[f.activation]
        self.layers = nn.ModuleList()
        width, size = config.channels + config.condition_channels, config.size
        for layer in f.layers:
            self.layers.append(convolution(layer, width))
            width, size = layer.out, (size + 2 * layer.padding - layer.kernel) // layer.stride + 1
        self.local = f.local
        self.head = nn.Linear(width if f.local else width * size * size, f.head)

    def forward(self, y: Tensor, c: Tensor) -> Tensor:
        h = torch.cat([y, c.to(y.dtype)], 1)
        for layer in self.layers:
            h = self.activation(layer(h))
        return head_value(self.head, h.sum((2, 3)) if self.local else h)


def fold(solver: PairSolver) -> None:
    """Bring a solver into the form that is served: the head as the one linear functional that it is, pooling within the
    weights. The same function, with less work.
    """
    solver.layers = nn.ModuleList(
        layer.plain() if isinstance(layer, PooledConv2d) else layer for layer in solver.layers
    )
    head = nn.Linear(solver.head.in_features, 1)
    with torch.no_grad():
        head.weight.copy_(solver.head.weight.sum(0, keepdim=True))
        head.bias.copy_(solver.head.bias.sum(0, keepdim=True))
    solver.head = head


class Upsampling(nn.Module):
    """Each pixel repeated 2x2, then a convolution (kernel 3, padding 1), computed as one transposed convolution.

    Args:
        inputs: channels in.
        outputs: channels out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        plain = nn.Conv2d(inputs, outputs, 3)
        self.weight, self.bias = plain.weight, plain.bias

    def fused(self) -> Tensor:
        """The weights of the transposed convolution of kernel 4: sums over the pixels that are repetitions of one."""
        kernel = self.weight.transpose(0, 1).flip(2, 3)
        return F.avg_pool2d(F.pad(kernel, (1, 1, 1, 1)), 2, 1, divisor_override=1)

    def forward(self, h: Tensor) -> Tensor:
        return conv_transpose2d(h, self.fused(), self.bias, 2, 1)


def _finish(width: int, layers: int, config: ImageConfig) -> nn.Module:
    """Convolutions at full size, with ReLUs between, from ``width`` channels and the condition to the image."""
    parts: list[nn.Module] = []
    inputs = width + config.condition_channels
    for _ in range(layers - 1):
        parts += [Conv2d(inputs, width, 3, 1, 1), nn.ReLU()]
        inputs = width
    return nn.Sequential(*parts, Conv2d(inputs, config.channels, 3, 1, 1))


def _transposed(inputs: int, outputs: int) -> nn.Module:
    return ConvTranspose2d(inputs, outputs, 4, 2, 1)


def _norm(width: int, size: int) -> nn.Module:
    return nn.InstanceNorm2d(width, affine=True) if size >= _SMALLEST_NORMED else nn.Identity()
