"""The image networks of cGML: an encoder H of the condition, and a generator G that a latent vector tells what to make.

The halving convolutions have kernel 4, stride 2 and padding 1; a norm follows each, then LeakyReLU(0.2) in H and ReLU
in G. The last map of 4x4 pixels becomes the bottleneck vector and from it the code h; each finer map of H is added to
the equal-sized map of G (or joined to its channels).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, Protocol, TypeAlias, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.core.config import BaseConfig, Count, Positive
from models.samplers.domains import Domain, DomainName, domain_of

NormName: TypeAlias = Literal["batch", "group"]
_GROUPS = 8
_STD = 0.02
_SLOPE = 0.2


class NetworkConfig(BaseConfig):
    """Sizes of H, G and the predictor Z.

    ``stem`` are the channels of H's maps from half the image's side to 4 pixels; for ``kind`` "points", whose images
    are single pixels, the hidden widths of two perceptrons. ``latent`` numbers say what is made, on the unit ``sphere``
    or in a ``box`` of ``bound``; ``hidden`` is the width of Z. ``norm``: batch norm as in the paper, whose bottleneck
    has one too, or group norm of 8 groups. ``spread`` multiplies what a perceptron sees of its condition.
    """

    kind: Literal["images", "points"] = "images"
    stem: Annotated[tuple[Count, ...], Field(min_length=1)]
    bottleneck: Count
    latent: Count
    hidden: Count
    norm: NormName = "group"
    skip: Literal["add", "concat"] = "add"
    domain: DomainName = "sphere"
    bound: Positive = 0.1
    spread: Positive = 1.0

    @property
    def side(self) -> int:
        """Pixels of the side of the images."""
        return 1 if self.kind == "points" else 4 * 2 ** len(self.stem)

    @property
    def code(self) -> tuple[int, int, int]:
        """The shape of h."""
        return (3, 1, 1) if self.kind == "points" else (self.stem[-1], 4, 4)

    def where(self) -> Domain:
        """Where latents live."""
        return domain_of(self.domain, self.bound)


class Encoded(NamedTuple):
    """What H makes of a condition.

    Args:
        vector: the bottleneck ``[n, bottleneck]``.
        h: ``[n, C, 4, 4]``.
        skips: maps of H from fine to coarse, without that of 4x4 pixels.
    """

    vector: Tensor
    h: Tensor
    skips: list[Tensor]


class Encoder(Protocol):
    """H."""

    def __call__(self, c: Tensor) -> Encoded: ...


class Generator(Protocol):
    """G: (h, z, skips) -> images in [-1, 1]; ``noise`` is added to the code with z joined to it."""

    def __call__(self, h: Tensor, z: Tensor, skips: Sequence[Tensor], noise: Tensor | None = None) -> Tensor: ...


def _norm(kind: NormName, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(_GROUPS, channels)


def _initialized(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, _STD)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@final
class ImageEncoder(nn.Module):
    """H for conditions of ``channels`` channels."""

    def __init__(self, config: NetworkConfig, channels: int) -> None:
        super().__init__()
        widths, batch = (channels, *config.stem), config.norm == "batch"
        self.halving = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), _norm(config.norm, outputs))
            for inputs, outputs in pairwise(widths)
        )
        squeeze = nn.Conv2d(widths[-1], config.bottleneck, 4, bias=not batch)
        self.squeeze = nn.Sequential(squeeze, *([_norm("batch", config.bottleneck)] if batch else []))
        spread = nn.ConvTranspose2d(config.bottleneck, widths[-1], 4, bias=False)
        self.spread = nn.Sequential(spread, _norm(config.norm, widths[-1]))
        _initialized(self)

    def forward(self, c: Tensor) -> Encoded:
        maps = []
        for halving in self.halving:
            c = F.leaky_relu(halving(c), _SLOPE)
            maps.append(c)
        vector = F.leaky_relu(self.squeeze(c), _SLOPE)
        return Encoded(vector.flatten(1), F.relu(self.spread(vector)), maps[:-1])


@final
class ImageGenerator(nn.Module):
    """G for images of ``channels`` channels."""

    def __init__(self, config: NetworkConfig, channels: int) -> None:
        super().__init__()
        self._joined = config.skip == "concat"
        outs = list(reversed(config.stem[:-1]))
        inputs = config.stem[-1] + config.latent
        doubling = []
        for out in outs:
            conv = nn.ConvTranspose2d(inputs, out, 4, 2, 1, bias=False)
            doubling.append(nn.Sequential(conv, _norm(config.norm, out)))
            inputs = 2 * out if self._joined else out
        self.doubling = nn.ModuleList(doubling)
        self.last = nn.ConvTranspose2d(inputs, channels, 4, 2, 1)
        _initialized(self)

    def forward(self, h: Tensor, z: Tensor, skips: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        x = torch.cat([h, z[:, :, None, None].expand(-1, -1, *h.shape[2:])], 1)
        if noise is not None:
            x = x + noise
        for doubling, skip in zip(self.doubling, reversed(skips), strict=True):
            x = F.relu(doubling(x))
            x = torch.cat([x, skip], 1) if self._joined else x + skip
        return torch.tanh(self.last(x))


def _perceptron(inputs: int, widths: Sequence[int], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


@final
class PointEncoder(nn.Module):
    """H for single numbers, as pictures of one pixel: a perceptron. Its vector is h."""

    def __init__(self, config: NetworkConfig, channels: int) -> None:
        super().__init__()
        self._spread = config.spread
        self.layers = _perceptron(channels, config.stem, config.code[0])

    def forward(self, c: Tensor) -> Encoded:
        vector: Tensor = self.layers(self._spread * c.flatten(1))
        return Encoded(vector, vector[:, :, None, None], [])


@final
class PointGenerator(nn.Module):
    """G for points of ``channels`` numbers: a perceptron without bounds."""

    def __init__(self, config: NetworkConfig, channels: int) -> None:
        super().__init__()
        self.layers = _perceptron(config.code[0] + config.latent, config.stem, channels)

    def forward(self, h: Tensor, z: Tensor, skips: Sequence[Tensor], noise: Tensor | None = None) -> Tensor:
        del skips
        x = torch.cat([h.flatten(1), z], 1)
        if noise is not None:
            x = x + noise.flatten(1)
        point: Tensor = self.layers(x)
        return point[:, :, None, None]


ENCODERS: Mapping[str, Callable[[NetworkConfig, int], nn.Module]] = {"images": ImageEncoder, "points": PointEncoder}
GENERATORS: Mapping[str, Callable[[NetworkConfig, int], nn.Module]] = {
    "images": ImageGenerator,
    "points": PointGenerator,
}
