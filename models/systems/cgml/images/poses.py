"""Data as the conditions and targets of each task, on the device; see :class:`models.systems.cgml.batch.Pose`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

import torch
from torch import Tensor

from models.core.noise import Noise
from models.data.augment import jitter
from models.data.images import ImageData, fit, to_float
from models.systems.cgml.batch import Batch, Clock, Pose
from models.systems.cgml.images.config import Config
from models.systems.cgml.images.forms import coloured, filled, of_colour, ring, with_hole
from models.systems.frame import Frame, prepared
from models.training.draws import Purpose

_WHITE = 250 / 127.5 - 1
"""A pixel is background where no channel is below this."""
_SIDES = 0.25, 0.55
"""Of the square that is hidden, as parts of the image's."""
_HELD = 7
"""The seed of the holes of fixed examples."""


@final
class Pictures:
    """Images, with their condition images below them where a task needs these, as uint8 on the device.

    Args:
        config: fitted to the data.
        stacks: uint8 ``[N, C, H, W]``.
        device: where they lie.
    """

    def __init__(self, config: Config, stacks: Tensor, device: torch.device) -> None:
        self._config, self._stacks = config, stacks.to(device)
        self._padded = Frame(config).padded

    def drawn(self, clock: Clock, n: int) -> Tensor:
        """n of them, drawn and moved a little, in [-1, 1] with the border around them."""
        u = clock(Purpose.DATA).uniform(1)[:n, 0]
        chosen = to_float(self._stacks[(u * len(self._stacks)).long().clamp(max=len(self._stacks) - 1)])
        t = self._config.training
        if t.shift or t.mirror:
            chosen = jitter(chosen, clock(Purpose.AUGMENT), pixels=t.shift, by="pad", mirror=t.mirror)
        return self._padded(chosen)

    def fixed(self, n: int) -> Tensor:
        """At most n of them, evenly spaced."""
        every = max(len(self._stacks) // n, 1)
        return self._padded(to_float(self._stacks[::every][:n]))


@final
class Translating:
    """The condition is the other image of a pair."""

    def __init__(self, config: Config, data: ImageData, device: torch.device) -> None:
        assert data.conditions is not None  # fit_to has asked for them
        self.condition_channels, self.channels = config.channels_in, config.channels_out
        self._config = config
        self._pictures = Pictures(config, torch.cat([data.images, data.conditions], 1), device)

    def batch(self, clock: Clock, n: int) -> Batch:
        return self._posed(self._pictures.drawn(clock, n))

    def fixed(self, n: int) -> Batch:
        return self._posed(self._pictures.fixed(n))

    def _posed(self, stack: Tensor) -> Batch:
        y, c = stack[:, : self.channels], stack[:, self.channels :]
        return Batch(c, y, torch.ones_like(y[:, :1]), c)

    def shown(self, made: Tensor, given: Tensor) -> Tensor:
        del given
        return made

    def condition(self, batch: Batch) -> Tensor:
        return _in_channels(batch.c, self.channels)

    def reference(self, images: Tensor) -> Tensor:
        return prepared(images, self._config, self._config.size)


@final
class Colorizing:
    """The condition is the lightness; colours of the background, which is white, do not count."""

    def __init__(self, config: Config, data: ImageData, device: torch.device) -> None:
        self.condition_channels, self.channels = config.channels_in, config.channels_out
        self._config = config
        self._pictures = Pictures(config, _images(config, data), device)

    def batch(self, clock: Clock, n: int) -> Batch:
        return self._posed(self._pictures.drawn(clock, n))

    def fixed(self, n: int) -> Batch:
        return self._posed(self._pictures.fixed(n))

    def _posed(self, images: Tensor) -> Batch:
        light, ab = of_colour(images)
        return Batch(light, ab, foreground(images, self._config.on_white), light)

    def shown(self, made: Tensor, given: Tensor) -> Tensor:
        return coloured(given, made)

    def condition(self, batch: Batch) -> Tensor:
        return coloured(batch.c, torch.zeros_like(batch.y))

    def reference(self, images: Tensor) -> Tensor:
        return prepared(images, self._config, self._config.size)


@final
class Inpainting:
    """The condition is the image without a square: 0.25 to 0.55 of its side, anywhere."""

    def __init__(self, config: Config, data: ImageData, device: torch.device) -> None:
        self.condition_channels, self.channels = config.channels_in, config.channels_out
        self._config = config
        self._pictures = Pictures(config, _images(config, data), device)

    def batch(self, clock: Clock, n: int) -> Batch:
        images = self._pictures.drawn(clock, n)
        return self._posed(images, clock(Purpose.HOLES).uniform(3)[:n])

    def fixed(self, n: int) -> Batch:
        images = self._pictures.fixed(n)
        keys = torch.arange(len(images), device=images.device)
        return self._posed(images, Noise.at(keys, torch.full_like(keys, _HELD)).uniform(3))

    def _posed(self, images: Tensor, u: Tensor) -> Batch:
        hidden = squares(u, images.shape[-1])
        c = with_hole(images, hidden, self._config.hole)
        return Batch(c, images, ring(hidden), torch.cat([images, hidden], 1))

    def shown(self, made: Tensor, given: Tensor) -> Tensor:
        return filled(given, made)

    def condition(self, batch: Batch) -> Tensor:
        return batch.c[:, : self.channels].clamp(-1, 1)

    def reference(self, images: Tensor) -> Tensor:
        return prepared(images, self._config, self._config.size)


def _images(config: Config, data: ImageData) -> Tensor:
    """The images; of pairs also the others, where both are to be learned from."""
    if not config.both or data.conditions is None:
        return data.images
    return torch.cat([data.images, fit(data.conditions, channels=config.channels)])


def _in_channels(images: Tensor, channels: int) -> Tensor:
    return images.expand(-1, channels, -1, -1) if images.shape[1] < channels else images[:, :channels]


def foreground(images: Tensor, on_white: bool) -> Tensor:
    """What counts, ``[n, 1, H, W]``: with a white background all other pixels, and a little of it, so that a row
    without any has a mean.
    """
    if not on_white:
        return torch.ones_like(images[:, :1])
    return (images.amin(1, keepdim=True) < _WHITE).to(images.dtype).clamp(min=1e-4)


def squares(u: Tensor, size: int) -> Tensor:
    """Hidden squares of uniform numbers ``[n, 3]`` (side, top, left), ``[n, 1, size, size]`` of 0 and 1."""
    low, high = _SIDES
    side = ((low + (high - low) * u[:, 0]) * size).round()
    line = torch.arange(size, device=u.device)
    inside = []
    for k in (1, 2):
        start = (u[:, k] * (size - side + 1)).floor()
        inside.append((line >= start[:, None]) & (line < (start + side)[:, None]))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None].to(u.dtype)


POSES: Mapping[str, Callable[[Config, ImageData, torch.device], Pose]] = {
    "translate": Translating,
    "colorize": Colorizing,
    "inpaint": Inpainting,
}
"""How data are posed, by the task of a configuration."""
