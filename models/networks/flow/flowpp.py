"""The flow as a whole: steps at several scales, from coordinates of pixels to latents and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.core.config import BaseConfig, Count
from models.networks.flow.conditioner import Conditioner
from models.networks.flow.halves import checkerboard, squeeze, uncheckered, unsqueeze
from models.networks.flow.steps import Step

Share = Annotated[float, Field(ge=0, lt=1)]


class FlowConfig(BaseConfig):
    """The sizes of a flow.

    ``scales`` are the steps on halves by channels and on halves by checkerboard, for each scale from the finest.
    ``attention`` says in which scales conditioners attend to all positions.
    """

    scales: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)]
    width: Count
    blocks: Count
    components: Count
    attention: Literal["all", "coarse", "none"] = "none"
    dropout: Share = 0.0
    dequantisation: Literal["uniform", "variational"] = "uniform"

    def attends(self, scale: int) -> bool:
        """Whether conditioners of a scale attend; ``coarse`` are all but the finest."""
        return self.attention == "all" or (self.attention == "coarse" and scale > 0)


def conditioner(config: FlowConfig, channels: int, *, attention: bool) -> Conditioner:
    """The conditioner for halves of so many channels."""
    return Conditioner(
        channels,
        width=config.width,
        blocks=config.blocks,
        components=config.components,
        dropout=config.dropout,
        attention=attention,
    )


class Scale(nn.Module):
    """The steps of one scale; then half of the squeezed channels go on to the coarser ones."""

    def __init__(self, config: FlowConfig, channels: int, scale: int) -> None:
        super().__init__()
        by_channels, by_checkerboard = config.scales[scale]
        if by_channels and channels % 2:
            raise ValueError(f"{channels} channels can't be halved at scale {scale}; its first number must be 0")
        attention = config.attends(scale)
        self.by_channels = nn.ModuleList(
            Step(channels // 2, conditioner(config, channels // 2, attention=attention)) for _ in range(by_channels)
        )
        self.by_checkerboard = nn.ModuleList(
            Step(channels, conditioner(config, channels, attention=attention)) for _ in range(by_checkerboard)
        )
        coarser = scale + 1 < len(config.scales)
        self.coarser = Scale(config, 2 * channels, scale + 1) if coarser else None

    def forward(self, x: Tensor, *, fit: bool = False) -> tuple[Tensor, Tensor]:
        volume = x.new_zeros(len(x))
        for step in self.by_channels:
            x, grown = step(x, fit=fit)
            volume = volume + grown
        halves = checkerboard(x)
        for step in self.by_checkerboard:
            halves, grown = step(halves, fit=fit)
            volume = volume + grown
        x = uncheckered(halves)
        if self.coarser is None:
            return x, volume
        on, out = squeeze(x).chunk(2, 1)
        on, grown = self.coarser(on, fit=fit)
        return unsqueeze(torch.cat([on, out], 1)), volume + grown

    def inverse(self, z: Tensor) -> Tensor:
        if self.coarser is not None:
            on, out = squeeze(z).chunk(2, 1)
            z = unsqueeze(torch.cat([self.coarser.inverse(on), out], 1))
        halves = _back(checkerboard(z), self.by_checkerboard)
        return _back(uncheckered(halves), self.by_channels)


def _back(x: Tensor, steps: nn.ModuleList) -> Tensor:
    for step in reversed(list(steps)):
        assert isinstance(step, Step)
        x = step.inverse(x)
    return x


class FlowPlusPlus(nn.Module):
    """An invertible map of ``[n, C, H, W]``; H and W are multiples of 2 to the number of scales.

    Args:
        config: its sizes.
        channels: of the images.
    """

    def __init__(self, config: FlowConfig, channels: int) -> None:
        super().__init__()
        self.finest = Scale(config, channels, 0)

    def forward(self, x: Tensor, *, fit: bool = False) -> tuple[Tensor, Tensor]:
        """Latents like x, and log \\|det dz/dx\\| of each row, ``[n]``.

        Args:
            x: coordinates of pixels.
            fit: let the norms fit to x on the way: once, before the first update.
        """
        return self.finest(x, fit=fit)

    def inverse(self, z: Tensor) -> Tensor:
        """x of latents z. Its gradients are those of the inverse function; no step of a bisection is differentiated."""
        return self.finest.inverse(z)


def steps_of(flow: nn.Module) -> Sequence[Step]:
    """All steps of a flow, for what guards look at."""
    return [module for module in flow.modules() if isinstance(module, Step)]
