"""The two networks of class-conditional CCoopNets, built from their configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.serving.convolutions import Conv2d, ConvTranspose2d, conv2d
from models.systems.ccoopnets.config import Layer
from models.systems.ccoopnets.labels.config import Config

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "leaky_relu": lambda h: F.leaky_relu(h, 0.2),
}


def convolution(layer: Layer, inputs: int) -> nn.Module:
    """The (transposed) convolution of a configuration's layer; its crop is left to the network."""
    if layer.transposed:
        return ConvTranspose2d(
            inputs, layer.out, layer.kernel, layer.stride, layer.padding, output_padding=layer.output_padding
        )
    if layer.pooled:
        return PooledConv2d(inputs, layer.out)
    return Conv2d(inputs, layer.out, layer.kernel, layer.stride, layer.padding)


class PooledConv2d(nn.Module):
    """A convolution (kernel 3, padding 1) and the mean of 2x2 pixels, computed as one of kernel 4 and stride 2.

    Args:
        inputs: channels in.
        outputs: channels out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        plain = nn.Conv2d(inputs, outputs, 3)
        self.weight, self.bias = plain.weight, plain.bias

    def fused(self) -> Tensor:
        """The weights of kernel 4: each the mean of its four neighbours in the padded kernel 3."""
        return F.avg_pool2d(F.pad(self.weight, (1, 1, 1, 1)), 2, 1)

    def forward(self, h: Tensor) -> Tensor:
        return conv2d(h, self.fused(), self.bias, 2, 1)

    def plain(self) -> nn.Conv2d:
        """The same function as an ordinary convolution, for serving."""
        outputs, inputs = self.weight.shape[:2]
        conv = Conv2d(inputs, outputs, 4, 2, 1).to(self.weight)
        with torch.no_grad():
            conv.weight.copy_(self.fused())
        conv.bias = self.bias
        return conv


def join_label(h: Tensor, c: Tensor) -> Tensor:
    """Append the label, replicated over the map, as further channels: ``[n, D, H, W] + [n, K] -> [n, D+K, H, W]``."""
    return torch.cat([h, c.to(h.dtype)[:, :, None, None].expand(-1, -1, *h.shape[2:])], 1)


class Initializer(nn.Module):
    """g(X, C; alpha): one forward pass from a latent X ``[n, d]`` and a label C ``[n, K]`` to images ``[n, ch, H, W]``.

    Tanh at the end, batch norm and ReLU before it. Serving uses the frozen statistics: a row never sees its neighbours.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        g = config.initializer
        self.latent, self.concat_at, self.label_scale = g.latent, g.concat_at, g.label_scale
        self.crops = [layer.crop for layer in g.layers]
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        width = g.latent
        for k, layer in enumerate(g.layers):
            self.layers.append(convolution(layer, width + (config.classes if k == g.concat_at else 0)))
            width = layer.out
            if k < len(g.layers) - 1:
                self.norms.append(nn.BatchNorm2d(width))
        if width != config.channels:
            raise ValueError(f"the last layer of the initializer makes {width} channels, not {config.channels}")

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = x[:, :, None, None]
        for k, layer in enumerate(self.layers):
            if k == self.concat_at:
                h = join_label(h, c * self.label_scale)
            h = layer(h)
            if self.crops[k]:
                h = h[:, :, : -self.crops[k], : -self.crops[k]]
            if k < len(self.layers) - 1:
                h = self._activate(k, h)
        return torch.tanh(h.float())

    def _activate(self, k: int, h: Tensor) -> Tensor:
        """What follows each layer but the last."""
        return F.relu(self.norms[k](h))


class Solver(nn.Module):
    """f(Y, C; theta): the value (negative energy) of images ``[n, ch, H, W]`` given labels ``[n, K]``, ``[n]``.

    The paper sums the outputs of a linear layer of 100. All 100 columns stay parameters, because under Adam they move
    together and set the head's effective learning rate.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        f = config.solver
        self.concat_at, self.label_scale, self.classes = f.concat_at, f.label_scale, config.classes
        self.activation = ACTIVATIONS[f.activation]
        self.layers = nn.ModuleList()
        width: int = config.channels
        size = config.size
        for k, layer in enumerate(f.layers):
            self.layers.append(convolution(layer, width + (config.classes if k == f.concat_at else 0)))
            width = layer.out
            size = (size + 2 * layer.padding - layer.kernel) // layer.stride + 1
        self.head = nn.Linear(width * size * size, f.head)

    def forward(self, y: Tensor, c: Tensor) -> Tensor:
        h = y
        for k, layer in enumerate(self.layers):
            if k == self.concat_at:
                h = join_label(h, c * self.label_scale)
            h = self.activation(layer(h))
        return head_value(self.head, h)

    def of_every_label(self, y: Tensor) -> Tensor:
        """f(Y, C) for each of the K labels, ``[n, K]``.

        The layer where the label joins is linear, so it is applied once to the images and once to the labels.
        """
        h = y
        for layer in self.layers[: self.concat_at]:
            h = self.activation(layer(h))
        join, k = self.layers[self.concat_at], self.classes
        labels = torch.cat([torch.eye(k, device=y.device), torch.zeros(1, k, device=y.device)])
        of_labels = join(join_label(torch.zeros_like(h[:1]).expand(k + 1, -1, -1, -1), labels * self.label_scale))
        of_images = join(join_label(h, torch.zeros(len(y), k, device=y.device)))
        h = self.activation((of_images[:, None] + of_labels[:-1] - of_labels[-1:]).flatten(0, 1))
        for layer in self.layers[self.concat_at + 1 :]:
            h = self.activation(layer(h))
        return head_value(self.head, h).view(len(y), k)


def head_value(head: nn.Linear, h: Tensor) -> Tensor:
    """The sum of a linear layer's outputs, ``[n, ...] -> [n]``: one linear functional, so its weights are summed first.

    It stays in float32 under mixed precision: learning follows small differences of f.
    """
    with torch.autocast(h.device.type, enabled=False):
        return (h.flatten(1).to(head.weight.dtype) * head.weight.sum(0)).sum(1) + head.bias.sum()


N = TypeVar("N", bound=nn.Module)


def channels_last(network: N) -> N:
    """The network with its weights laid out pixel by pixel; at 64x64 that halves the time on a CPU."""
    laid_out: N = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out


def initialize_as_paper(network: nn.Module) -> None:
    """Weights of every (transposed) convolution and linear layer N(0, 0.01^2), biases 0, as in the authors' code."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
