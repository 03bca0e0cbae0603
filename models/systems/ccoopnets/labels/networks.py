"""The two networks of class-conditional CCoopNets, built from their configuration."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers import ACTIVATIONS, convolution, head_value, join_label
from models.systems.ccoopnets.labels.config import Config


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
                h = F.relu(self.norms[k](h))
        return torch.tanh(h.float())


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
