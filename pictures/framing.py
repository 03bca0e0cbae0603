"""Pictures of any size brought to a model's shape, and results brought back to where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pictures.bands import bands

Fit: TypeAlias = Literal["cover", "contain", "stretch"]
Size: TypeAlias = tuple[int, int]
Box: TypeAlias = tuple[int, int, int, int]

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_LANCZOS = Image.Resampling.LANCZOS


@dataclass(frozen=True)
class Frame:
    """Which window of a picture lies where in the model's: left, top, right, bottom, in whole pixels.

    Args:
        source: width and height of the picture.
        window: the part of the picture that the model sees.
        place: where the model sees it; white lies around it.
        target: width and height of the model's picture.
    """

    source: Size
    window: Box
    place: Box
    target: Size

    @classmethod
    def of(cls, source: Size, target: Size, fit: Fit, hole: Box | None = None) -> Frame:
        """The frame for a picture of size ``source``.

        ``cover``: the largest window of the target's proportions from the middle; as near to the middle as it holds the
        ``hole``, or its middle if it can't hold all of it. ``contain``: all of the picture in its own proportions, in
        the middle. ``stretch``: all of the picture on all of the target.
        """
        window = _around(_inside(target, source), hole, source) if fit == "cover" else (0, 0, *source)
        place = _inside(source, target) if fit == "contain" else (0, 0, *target)
        return cls(source, window, place, target)

    def holds(self, box: Box) -> bool:
        """Whether all of a part of the picture is in the window."""
        left, top, right, bottom = self.window
        return left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom

    def apply(self, picture: Image.Image) -> Image.Image:
        """The model's picture, scaled by Lanczos resampling; one of the model's size comes out as it was."""
        part = picture.crop(self.window).resize(_size(self.place), _LANCZOS)
        if part.size == self.target:
            return part
        canvas = Image.new(part.mode, self.target, "white")
        canvas.paste(part, self.place)
        return canvas

    def apply_mask(self, hidden: Image.Image) -> Image.Image:
        """The model's mask, 0 and 255: a pixel is hidden if any of those that it stands for is; the margin is not."""
        width, height = _size(self.place)
        rows = _any(np.asarray(hidden.crop(self.window)) > 0, height)
        canvas = Image.new("L", self.target, 0)
        canvas.paste(Image.fromarray(_any(rows.T, width).T.astype(np.uint8) * 255), self.place)
        return canvas

    def undo(self, picture: Image.Image, base: Image.Image, hidden: Image.Image | None) -> Image.Image:
        """A result at the size of the picture that the model was given, in its place.

        Args:
            picture: the result; any size of the target's proportions.
            base: the picture as it was sent, which shows around the window.
            hidden: 0 or 255 at the size of ``base``; the result shows in hidden pixels alone. None: in all.
        """
        scale = picture.width / self.target[0], picture.height / self.target[1]
        left, top, right, bottom = (edge * scale[k % 2] for k, edge in enumerate(self.place))
        part = picture.resize(_size(self.window), _LANCZOS, box=(left, top, right, bottom))
        result = base.convert("RGB" if "RGB" in (base.mode, part.mode) else "L")
        result.paste(part.convert(result.mode), self.window, hidden.crop(self.window) if hidden else None)
        return result


def on_white(picture: Image.Image, channels: int) -> Image.Image:
    """A picture with its transparency laid on white, as grey (1 channel) or colour (3)."""
    mode = _MODES[channels]
    if picture.mode not in ("LA", "RGBA"):
        return picture.convert(mode)
    if picture.getchannel("A").getextrema() == (255, 255):  # laid on white, nothing of it would change
        return picture.convert(mode)
    flat = Image.new(mode, picture.size)
    for band in bands(picture.size):
        part = picture.crop(band).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part).convert(mode), band)
    return flat


def _size(box: Box) -> Size:
    return box[2] - box[0], box[3] - box[1]


def _any(hidden: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """So many rows instead of those given: each stands for all that it overlaps, and is hidden where one of them is.

    Image libraries give each pixel to the rows by its centre, and lose one that lies on the edge of two.
    """
    edges = np.arange(size + 1) * len(hidden)
    first, last = edges[:-1] // size, -(-edges[1:] // size)
    return np.stack([hidden[top:bottom].any(axis=0) for top, bottom in zip(first, last, strict=True)])


def _around(window: Box, hole: Box | None, outer: Size) -> Box:
    """The window moved as little as it must be to hold the hole, within ``outer``."""
    if hole is None:
        return window
    left, top = (_moved(window[k], window[k + 2], hole[k], hole[k + 2], outer[k]) for k in (0, 1))
    width, height = _size(window)
    return left, top, left + width, top + height


def _moved(begin: int, end: int, first: int, last: int, outer: int) -> int:
    length = end - begin
    if last - first > length:  # it can't hold all: the middle of the hole
        return min(max(0, (first + last - length) // 2), outer - length)
    return min(max(begin, last - length), first)


def _inside(proportions: Size, outer: Size) -> Box:
    """The largest box of these proportions in the middle of ``outer``, at least one pixel wide and high."""
    width = min(outer[0], max(1, round(outer[1] * proportions[0] / proportions[1])))
    height = min(outer[1], max(1, round(outer[0] * proportions[1] / proportions[0])))
    left, top = (outer[0] - width) // 2, (outer[1] - height) // 2
    return left, top, left + width, top + height
