"""Noise that makes continuous numbers of the 256 levels of a pixel, by a flow of its own (Flow++, section 3.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.flow.conditioner import Conditioner, GatedConvolution
from models.networks.flow.flowpp import FlowConfig
from models.networks.flow.halves import checkerboard, uncheckered
from models.networks.flow.steps import Step

_STEPS, _BLOCKS, _CONTEXT = 4, 2, 32


def normal_log_density(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each row, ``[n]``."""
    return -(z.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2


class VariationalDequantisation(nn.Module):
    """u in (0, 1) given an image, and its density r(u | x)."""

    def __init__(self, config: FlowConfig, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2 * channels, _CONTEXT, 3, padding=1)
        self.context = nn.ModuleList(GatedConvolution(_CONTEXT, config.dropout) for _ in range(3))
        self.steps = nn.ModuleList(Step(channels, self._conditioner(config, channels)) for _ in range(_STEPS))

    @staticmethod
    def _conditioner(config: FlowConfig, channels: int) -> Conditioner:
        return Conditioner(
            channels,
            width=config.width,
            blocks=_BLOCKS,
            components=config.components,
            dropout=config.dropout,
            attention=config.attends(0),
            context=_CONTEXT,
        )

    def forward(self, x: Tensor, noise: Tensor, *, fit: bool = False) -> tuple[Tensor, Tensor]:
        """u like x, and log r(u | x), ``[n]``.

        Args:
            x: images in [-1, 1].
            noise: standard normal, like x.
            fit: let the norms fit to the noise.
        """
        context = self.first(checkerboard(x / 2))
        for layer in self.context:
            context = layer(context)
        halves, log_density = checkerboard(noise), normal_log_density(noise)
        for step in self.steps:
            halves, grown = step(halves, context, fit=fit)
            log_density = log_density - grown
        logits = uncheckered(halves)
        slope = -F.softplus(logits) - F.softplus(-logits)
        return torch.sigmoid(logits), log_density - slope.flatten(1).sum(1)
