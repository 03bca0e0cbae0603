"""The network in a coupling: from the half that stays to the parameters by which the other half is transformed."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from models.networks.flow.mixture import Mixture

HEADS = 4
LEAST_LOG_SCALE = -7.0
"""Bounds the density on flat backgrounds, as in the code of Flow++."""


def concat_elu(h: Tensor) -> Tensor:
    """ELU of h and of -h, as twice as many channels."""
    return F.elu(torch.cat([h, -h], 1))


def convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """A weight-normalised convolution that keeps the size."""
    return weight_norm(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2))


class GatedConvolution(nn.Module):
    """Two convolutions and a gate, at one width.

    Args:
        width: channels in and out.
        dropout: the share of channels that training drops.
        context: channels of what it is also given; 0: nothing.
    """

    def __init__(self, width: int, dropout: float, context: int = 0) -> None:
        super().__init__()
        self.first = convolution(2 * width, width, 3)
        self.context = convolution(2 * context, width, 1) if context else None
        self.dropout = nn.Dropout2d(dropout)
        self.gate = convolution(2 * width, 2 * width, 1)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.first(concat_elu(h))
        if self.context is not None and context is not None:
            h = h + self.context(concat_elu(context))
        return F.glu(self.gate(self.dropout(concat_elu(h))), 1)


class GatedAttention(nn.Module):
    """Self-attention over all positions, with sinusoidal positions and a gate; channels are last, ``[n, L, width]``."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        if width % (2 * HEADS):
            raise ValueError(f"attention with {HEADS} heads needs a width that {2 * HEADS} divides, got {width}")
        self._dropout = dropout
        self.project = weight_norm(nn.Linear(width, 3 * width, bias=False))
        self.gate = weight_norm(nn.Linear(width, 2 * width))

    def forward(self, h: Tensor) -> Tensor:
        length, width = h.shape[1:]
        projected = self.project(h + positions(length, width, h.device).to(h.dtype))
        q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in projected.chunk(3, 2))
        dropped = self._dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped)
        return F.glu(self.gate(mixed.transpose(1, 2).flatten(2)), 2)


def positions(length: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of each position, at periods from 1 to 10,000: ``[length, width]``."""
    half = width // 2
    rates = torch.exp(-math.log(1e4) / max(half - 1, 1) * torch.arange(half, device=device))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


class Block(nn.Module):
    """A gated convolution and, where asked for, attention; each with its residual and a norm over channels."""

    def __init__(self, width: int, dropout: float, *, attention: bool, context: int = 0) -> None:
        super().__init__()
        self.convolution = GatedConvolution(width, dropout, context)
        self.norm = nn.LayerNorm(width)
        self.attention = GatedAttention(width, dropout) if attention else None
        self.attended_norm = nn.LayerNorm(width) if attention else None

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        size = h.shape[2:]
        h = self.norm((h + self.convolution(h, context)).flatten(2).transpose(1, 2))
        if self.attention is not None and self.attended_norm is not None:
            h = self.attended_norm(h + self.attention(h))
        return h.transpose(1, 2).unflatten(2, size)


class Transformation(NamedTuple):
    """y = (l(x) + b) e^a, with l the logit of a mixture; a and b are like x."""

    a: Tensor
    b: Tensor
    mixture: Mixture


class Conditioner(nn.Module):
    """The parameters for each element of a half, from the other half.

    Args:
        channels: of a half.
        width: of the network.
        blocks: how many.
        components: K, of each mixture.
        dropout: see :class:`GatedConvolution`.
        attention: whether blocks attend to all positions.
        context: channels of what the blocks are also given; 0: nothing.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int,
        blocks: int,
        components: int,
        dropout: float,
        attention: bool,
        context: int = 0,
    ) -> None:
        super().__init__()
        self._components = components
        self.first = convolution(channels, width, 3)
        self.blocks = nn.ModuleList(Block(width, dropout, attention=attention, context=context) for _ in range(blocks))
        self.last = convolution(width, channels * (2 + 3 * components), 3)
        self.rescale = weight_norm(Rescale(channels))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Transformation:
        h = self.first(x)
        for block in self.blocks:
            h = block(h, context)
        h = self.last(h).unflatten(1, (-1, x.shape[1]))
        k = self._components
        a, b, weights, means, log_scales = h.split([1, 1, k, k, k], 1)
        mixture = Mixture(weights.log_softmax(1), means, log_scales.clamp(min=LEAST_LOG_SCALE))
        return Transformation(self.rescale(a[:, 0].tanh()), b[:, 0], mixture)


class Rescale(nn.Module):
    """Each channel times a number that is learned, 1 at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x
