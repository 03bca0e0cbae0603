"""The solver as it is served: the same function as in training, with its gradient written out."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.samplers.langevin import drift_of
from models.serving.convolutions import Conv2d, conv_transpose2d
from models.serving.packed import PackedConv2d, PackedModule
from models.systems.ccoopnets.labels.networks import ACTIVATIONS, PooledConv2d, Solver, channels_last

SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "silu": torch.ops.aten.silu_backward.default,
    "leaky_relu": lambda g, h: torch.ops.aten.leaky_relu_backward.default(g, h, 0.2, False),
}
"""(gradient to an activation's value, its argument) -> the gradient to its argument."""

_NARROW = 4
"""To images of so few channels a product for each row is faster than a transposed convolution."""


class FrozenSolver(PackedModule):
    """f(Y, C) of a :class:`Solver` and its gradient to Y by the chain rule, without a graph.

    With less work than in training: pooling lies within the weights, the sum of the head's columns is the one linear
    functional that it is, and what a label adds to the layer where it joins, which is linear, is looked up. All is laid
    out pixel by pixel, as the libraries compute it on a CPU: else each convolution moves the numbers there and back.

    Args:
        solver: what is to be served; it is left as it is.
        activation: the name of its activation.
        size: height and width of the images.
    """

    def __init__(self, solver: Solver, activation: str, size: int) -> None:
        super().__init__()
        self.activation, self.slope_of = ACTIVATIONS[activation], SLOPES[activation]
        self.concat_at = solver.concat_at
        self.layers, self.backwards = nn.ModuleList(), nn.ModuleList()
        self.labels: Tensor
        for k, layer in enumerate(solver.layers):
            plain = layer.plain() if isinstance(layer, PooledConv2d) else layer
            assert isinstance(plain, nn.Conv2d)
            if k == self.concat_at:
                plain, labels = _split(plain, solver.classes, size)
                self.register_buffer("labels", labels * solver.label_scale)
            self.layers.append(PackedConv2d(plain.weight, plain.bias, *_numbers(plain)[1:]))
            self.backwards.append(_InputGradient(plain, size))
            kernel, stride, padding = _numbers(plain)
            size = (size + 2 * padding - kernel) // stride + 1
        with torch.no_grad():
            self.register_buffer("head", solver.head.weight.sum(0).view(1, -1, size, size))
            self.register_buffer("bias", solver.head.bias.sum())
        self.head: Tensor
        self.bias: Tensor
        channels_last(self)

    def forward(self, y: Tensor, c: Tensor) -> Tensor:
        """f of images ``[n, ch, H, W]`` given labels ``[n, K]``, ``[n]``."""
        h = self._arguments(y, c)[-1]
        return (self.activation(h) * self.head).sum((1, 2, 3)) + self.bias

    @torch.no_grad()
    def gradient(self, y: Tensor, c: Tensor) -> Tensor:
        """The gradient of f to each image, ``[n, ch, H, W]``."""
        arguments = self._arguments(y, c)
        g = self.head.expand_as(arguments[-1])
        for k in reversed(range(len(self.layers))):
            g = self.backwards[k](self.slope_of(g, arguments[k]))
        return g

    def _arguments(self, y: Tensor, c: Tensor) -> list[Tensor]:
        """The argument of each activation."""
        arguments: list[Tensor] = []
        h = _by_pixels(y)
        for k, layer in enumerate(self.layers):
            h = layer(h)
            if k == self.concat_at:
                # A product for each row: the bits of one for all rows would depend on how many there are.
                added = torch.matmul(c.to(h.dtype)[:, None], self.labels)
                h = h + added.view(h.shape[0], *h.shape[2:], -1).permute(0, 3, 1, 2)
            arguments.append(h)
            h = self.activation(h)
        return arguments


class Drift(nn.Module):
    """What a step of :func:`models.samplers.langevin.langevin` adds to each image beside noise, by a solver's f."""

    def __init__(self, solver: FrozenSolver) -> None:
        super().__init__()
        self.solver = solver

    def forward(self, y: Tensor, c: Tensor, eta: Tensor, rho: Tensor) -> Tensor:
        """Images, labels, step sizes and weights of the reference -> ``[n, ch, H, W]``."""
        return drift_of(self.solver.gradient(y, c), y, eta, rho)


def _by_pixels(y: Tensor) -> Tensor:
    """Images laid out pixel by pixel, and with the strides that say so if they have one channel."""
    if y.shape[1] == 1:
        return y.reshape(y.shape[0], *y.shape[2:], 1).permute(0, 3, 1, 2)
    return y.contiguous(memory_format=torch.channels_last)


def _split(layer: nn.Conv2d, classes: int, size: int) -> tuple[Conv2d, Tensor]:
    """The layer where labels join: for images alone, and what each label adds to its output, ``[1, K, H * W * D]``."""
    kernel, stride, padding = _numbers(layer)
    width = layer.in_channels - classes
    image = Conv2d(width, layer.out_channels, kernel, stride, padding).to(layer.weight)
    image.bias = layer.bias
    with torch.no_grad():
        image.weight.copy_(layer.weight[:, :width])
        maps = torch.eye(classes, dtype=layer.weight.dtype)[:, :, None, None].expand(-1, -1, size, size)
        labels = F.conv2d(maps, layer.weight[:, width:], None, stride, padding)
    return image, labels.permute(0, 2, 3, 1).reshape(1, classes, -1)


def _numbers(layer: nn.Conv2d) -> tuple[int, int, int]:
    """Kernel, stride and padding, each the same in both directions."""
    assert not isinstance(layer.padding, str)
    return layer.kernel_size[0], layer.stride[0], layer.padding[0]


class _InputGradient(nn.Module):
    """From the gradient to a convolution's output, the one to its input, whose height and width are ``size``."""

    def __init__(self, layer: nn.Conv2d, size: int) -> None:
        super().__init__()
        self.size = size
        self.kernel, self.stride, self.padding = _numbers(layer)
        self.plain = self.stride == 1 and self.padding < self.kernel
        self.narrow = not self.plain and layer.in_channels <= _NARROW
        weight = layer.weight.detach()
        if self.plain:
            weight = weight.flip(2, 3).transpose(0, 1).contiguous()
            self.convolution = PackedConv2d(weight, None, 1, self.kernel - 1 - self.padding)
        else:
            self.register_buffer("weight", weight.flatten(1).t().contiguous() if self.narrow else weight)
        self.weight: Tensor

    def forward(self, g: Tensor) -> Tensor:
        if self.plain:
            gradient: Tensor = self.convolution(g)
            return gradient
        if self.narrow:
            columns = torch.matmul(self.weight, g.flatten(2))
            return F.fold(columns, (self.size, self.size), self.kernel, padding=self.padding, stride=self.stride)
        rest = (self.size + 2 * self.padding - self.kernel) % self.stride
        return conv_transpose2d(g, self.weight, None, self.stride, self.padding, rest)
