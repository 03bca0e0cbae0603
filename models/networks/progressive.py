r"""Networks of a progressive GAN: a generator and a critic that grow by doubling their resolution.

Karras, Aila, Laine and Lehtinen (2018), Progressive growing of GANs for improved quality, stability, and variation.
Both have layers for all their resolutions from the start; a call says at which one it enters or leaves, and how far the
finest is faded in. Weights are drawn from N(0, 1) and multiplied by :math:`gain / \sqrt{fan\_in}` when they are used,
so that Adam moves all of them at one rate; biases are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BASE = 4
"""Pixels of the side at which both begin."""

_RECTIFIED = math.sqrt(2)
_TINY = 1e-8


def widths(base: int, most: int, size: int) -> int:
    """Channels at so many pixels: min(base / 2^s, most), s = log2(size) - 1; at 2 pixels those of a critic's head."""
    return min(base >> (size.bit_length() - 2), most)


def sizes_to(size: int) -> tuple[int, ...]:
    """4, 8 ... size.

    Raises:
        ValueError: the size is no power of two from 4.
    """
    if size < BASE or size & (size - 1):
        raise ValueError(f"a progressive network takes powers of two from {BASE} pixels, not {size}")
    return tuple(BASE << k for k in range(int(math.log2(size // BASE)) + 1))


def pixel_norm(h: Tensor) -> Tensor:
    """Each position by the root mean square of its channels."""
    return h * (h.square().mean(1, keepdim=True) + _TINY).rsqrt()


def deviation_map(h: Tensor) -> Tensor:
    """The standard deviation over the batch of each activation, averaged to one number, as a map ``[n, 1, H, W]``."""
    deviation = (h.var(0, correction=0) + _TINY).sqrt().mean()
    return deviation.expand(len(h), 1, *h.shape[2:])


class Scaled(nn.Module):
    """A convolution with an equalised learning rate; its bias is outside the scale.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernel: 1, 3 or 4; 4 is without padding.
        gain: 1 for linear outputs; by default that before a leaky ReLU.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, gain: float = _RECTIFIED) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self._padding = gain / math.sqrt(inputs * kernel**2), kernel // 2 if kernel % 2 else 0

    def forward(self, h: Tensor) -> Tensor:
        return F.conv2d(h, self.weight * self.scale, self.bias, padding=self._padding)


class Seed(nn.Module):
    """z ``[n, d]`` -> 4x4 pixels: a dense layer of the scale sqrt(2) / 4 / sqrt(d), for a kernel has 16 positions."""

    def __init__(self, latent: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, latent, BASE, BASE))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = _RECTIFIED / BASE / math.sqrt(latent)

    def forward(self, z: Tensor) -> Tensor:
        pixels = z @ (self.weight * self.scale).transpose(0, 1).flatten(1)
        return pixels.unflatten(1, (len(self.weight), BASE, BASE)) + self.bias[:, None, None]


def doubled(images: Tensor) -> Tensor:
    """Each pixel as 2x2."""
    return F.interpolate(images, scale_factor=2)


def _active(h: Tensor) -> Tensor:
    return F.leaky_relu(h, 0.2)


@final
class Generator(nn.Module):
    """G: z ``[n, d]`` -> images ``[n, C, R, R]``. Linear at its end: images may exceed [-1, 1].

    z is normalised first, so G(c z) = G(z) for c > 0.

    Args:
        latent: d.
        channels: C.
        size: R at most, a power of two.
        base: see :func:`widths`.
        most: see :func:`widths`.
    """

    def __init__(self, latent: int, channels: int, size: int, base: int, most: int) -> None:
        super().__init__()
        self.sizes = sizes_to(size)
        wide = {r: widths(base, most, r) for r in self.sizes}
        self.seed = Seed(latent, wide[BASE])
        self.first = nn.ModuleDict({str(r): Scaled(wide[r // 2], wide[r], 3) for r in self.sizes[1:]})
        self.second = nn.ModuleDict({str(r): Scaled(wide[r], wide[r], 3) for r in self.sizes})
        self.to_rgb = nn.ModuleDict({str(r): Scaled(wide[r], channels, 1, gain=1) for r in self.sizes})

    def forward(self, z: Tensor, size: int | None = None, alpha: float | Tensor | None = None) -> Tensor:
        """Images of ``size`` pixels (None: the most), the block of that size faded in by alpha (None: all there)."""
        size = size or self.sizes[-1]
        h = pixel_norm(_active(self.seed(pixel_norm(z))))
        h = pixel_norm(_active(self.second[str(BASE)](h)))
        coarse = h
        for r in self.sizes[1 : self.sizes.index(size) + 1]:
            coarse = h
            h = pixel_norm(_active(self.first[str(r)](doubled(h))))
            h = pixel_norm(_active(self.second[str(r)](h)))
        image: Tensor = self.to_rgb[str(size)](h)
        if alpha is not None and size > BASE:
            return torch.lerp(doubled(self.to_rgb[str(size // 2)](coarse)), image, alpha)
        return image


@final
class Critic(nn.Module):
    """D: images ``[n, C, R, R]`` -> a number each, ``[n]``. A row's number depends on its batch: it is not served.

    Args:
        channels: C.
        size: R at most, a power of two.
        base: see :func:`widths`.
        most: see :func:`widths`.
    """

    def __init__(self, channels: int, size: int, base: int, most: int) -> None:
        super().__init__()
        self.sizes = sizes_to(size)
        wide = {r: widths(base, most, r) for r in (BASE // 2, *self.sizes)}
        self.from_rgb = nn.ModuleDict({str(r): Scaled(channels, wide[r], 1) for r in self.sizes})
        self.first = nn.ModuleDict({str(r): Scaled(wide[r], wide[r], 3) for r in self.sizes[1:]})
        self.second = nn.ModuleDict({str(r): Scaled(wide[r], wide[r // 2], 3) for r in self.sizes[1:]})
        self.last = Scaled(wide[BASE] + 1, wide[BASE], 3)
        self.whole = Scaled(wide[BASE], wide[BASE // 2], BASE)
        self.head = Scaled(wide[BASE // 2], 1, 1, gain=1)

    def forward(self, images: Tensor, alpha: float | Tensor | None = None) -> Tensor:
        """Images enter at their own size, whose block is faded in by alpha (None: all there)."""
        size = images.shape[-1]
        h = _active(self.from_rgb[str(size)](images))
        for r in reversed(self.sizes[1 : self.sizes.index(size) + 1]):
            h = _active(self.second[str(r)](_active(self.first[str(r)](h))))
            h = F.avg_pool2d(h, 2)
            if r == size and alpha is not None:
                coarse = _active(self.from_rgb[str(r // 2)](F.avg_pool2d(images, 2)))
                h = torch.lerp(coarse, h, alpha)
        h = _active(self.last(torch.cat([h, deviation_map(h)], 1)))
        return self.head(_active(self.whole(h))).flatten()


def faded(images: Tensor, alpha: float | Tensor | None) -> Tensor:
    """Observed images as the critic is shown them while a block is faded in: (1 - alpha) up(pool(x)) + alpha x."""
    return images if alpha is None else torch.lerp(doubled(F.avg_pool2d(images, 2)), images, alpha)


def perceptron(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them: a GAN of points in the plane has 2-20-20-2 and 2-20-20-1."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
