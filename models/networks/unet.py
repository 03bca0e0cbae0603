"""A U-Net from images to images, with dropout masks that are given to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers import Upsampling

KEEP = 0.5
"""The share of activations that dropout keeps."""

_SMALLEST_NORMED = 4
"""Instance norm of a map below 4x4 would leave little or nothing of it."""


class UNet(nn.Module):
    """g(X, C; alpha): condition images ``[n, Cc, H, W]`` and dropout masks X to images ``[n, ch, H, W]`` in [-1, 1].

    Encoder: convolution, instance norm (not on the first stage, nor on maps below 4x4), leaky ReLU. Decoder: transposed
    convolution, instance norm, dropout (coarsest stages), skip, ReLU; tanh at the end. The masks come from outside, one
    a row and stage: they are the model's noise, in training and in serving, and a row must not share them.

    Args:
        channels: of the image.
        condition_channels: of the condition.
        size: height and width of both.
        widths: channels of each encoder stage, finest first.
        dropout_stages: how many decoder stages have dropout.
        dropout: ``activation`` drops single activations, ``channel`` whole maps.
        smooth: stages double their maps by :class:`Upsampling`, instead of by a transposed convolution.
        finish: so many channels of the last stage go through ``finish_layers`` convolutions (kernel 3) at full size,
            the first of which sees the condition, too; None: the last stage makes the image.
        finish_layers: how many.
    """

    def __init__(
        self,
        channels: int,
        condition_channels: int,
        size: int,
        widths: Sequence[int],
        dropout_stages: int,
        *,
        dropout: Literal["activation", "channel"] = "activation",
        smooth: bool = False,
        finish: int | None = None,
        finish_layers: int = 1,
    ) -> None:
        super().__init__()
        if size % 2 ** len(widths):
            raise ValueError(f"{len(widths)} stages that halve the image need a multiple of {2 ** len(widths)}")
        self.down, self.down_norms = nn.ModuleList(), nn.ModuleList()
        width = condition_channels
        for k, out in enumerate(widths):
            size //= 2
            self.down.append(nn.Conv2d(width, out, 4, 2, 1))
            self.down_norms.append(_norm(out, size) if k else nn.Identity())
            width = out
        doubling = Upsampling if smooth else _transposed
        self.up, self.up_norms = nn.ModuleList(), nn.ModuleList()
        self.mask_shapes: list[tuple[int, int, int]] = []
        for k, out in enumerate(reversed(widths[:-1])):
            size *= 2
            self.up.append(doubling(width, out))
            self.up_norms.append(_norm(out, size))
            if k < dropout_stages:
                self.mask_shapes.append((out, 1, 1) if dropout == "channel" else (out, size, size))
            width = 2 * out
        self.last = doubling(width, finish or channels)
        self.finish = _finish(finish, finish_layers, condition_channels, channels) if finish else None

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


def _finish(width: int, layers: int, condition_channels: int, channels: int) -> nn.Module:
    """Convolutions at full size, with ReLUs between, from ``width`` channels and the condition to the image."""
    parts: list[nn.Module] = []
    inputs = width + condition_channels
    for _ in range(layers - 1):
        parts += [nn.Conv2d(inputs, width, 3, 1, 1), nn.ReLU()]
        inputs = width
    return nn.Sequential(*parts, nn.Conv2d(inputs, channels, 3, 1, 1))


def _transposed(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)


def _norm(width: int, size: int) -> nn.Module:
    return nn.InstanceNorm2d(width, affine=True) if size >= _SMALLEST_NORMED else nn.Identity()
