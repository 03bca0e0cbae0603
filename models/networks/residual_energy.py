"""The energy network of CoopFlow: residual blocks without any normalisation (Table 2 of Xie et al., ICLR 2022)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUTPUTS = 100
SMALLEST = 4
"""Pixels of the side of the last map, which the head sees as a whole."""


Activation: TypeAlias = Callable[[Tensor], Tensor]


def plain_swish(h: Tensor) -> Tensor:
    """x sigmoid(x) as two operations: slower, but its second derivative changes nothing in place."""
    return h * torch.sigmoid(h)


class ResidualBlock(nn.Module):
    """Two convolutions beside one, with swish after each; their sum, averaged over 2x2 pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.second = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, h: Tensor, swish: Activation) -> Tensor:
        return F.avg_pool2d(swish(self.second(swish(self.first(h)))) + swish(self.skip(h)), 2)


class ResidualEnergy(nn.Module):
    """f = -E of images ``[n, C, size, size]``: ``[n]``. Swish makes it smooth, so that it can be differentiated twice.

    The head is a 4x4 convolution to 100 outputs without activation whose sum is f, as in the authors' code; Table 2
    prints another one, with which the number of parameters would not be that of Table 8.

    Args:
        channels: of the images.
        width: n_f, channels after the first convolution; each of the first three blocks doubles them.
        size: pixels of the side, 32 or a greater power of two: one more block for each doubling.
    """

    def __init__(self, channels: int, width: int, size: int) -> None:
        super().__init__()
        blocks = (size // SMALLEST).bit_length() - 1
        if size != SMALLEST << blocks or blocks < 1:
            raise ValueError(f"the energy takes images of {SMALLEST} times a power of two pixels, got {size}")
        widths = [width << min(k, 3) for k in range(blocks + 1)]
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[-1], OUTPUTS, SMALLEST)

    def forward(self, images: Tensor, swish: Activation = F.silu) -> Tensor:
        h = swish(self.first(images))
        for block in self.blocks:
            h = block(h, swish)
        # The sum of the outputs is one linear functional: its weights are summed first.
        assert self.head.bias is not None
        return (h * self.head.weight.sum(0)).flatten(1).sum(1) + self.head.bias.sum()
