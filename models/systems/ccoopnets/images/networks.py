"""The two networks of image-conditional CCoopNets (section 4.2 of the paper), built from their configuration."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.networks.layers import ACTIVATIONS, convolution, head_value
from models.networks.unet import UNet
from models.systems.ccoopnets.images.config import ImageConfig


def unet(config: ImageConfig) -> UNet:
    """The initializer g(X, C; alpha)."""
    g = config.initializer
    return UNet(
        config.channels,
        config.condition_channels,
        config.size,
        g.widths,
        g.dropout_stages,
        dropout=g.dropout,
        smooth=g.smooth,
        finish=g.finish,
        finish_layers=g.finish_layers,
    )


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
