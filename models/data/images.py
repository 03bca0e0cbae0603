"""Images with labels or conditions, in memory: what every reader gives and every training takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the weights with which image libraries turn colour into grey


class DataError(ValueError):
    """Data that can't be used as they are. The message names what is wrong and what to do."""


@dataclass(frozen=True, eq=False)
class ImageData:
    """A set of images of one size.

    Args:
        images: uint8 ``[N, C, H, W]``, C = 1 (grey) or 3 (red, green, blue).
        labels: int64 ``[N]``, each an index into ``classes``; None for images without labels.
        classes: the names of the labels; empty for images without labels.
        name: what messages and model cards call the set.
        conditions: uint8 ``[N, Cc, H, W]``, Cc = 1 or 3: what each image is made from, pixel by pixel at the same place
            (line art of a coloured drawing); None for images without.

    Raises:
        DataError: a type, shape or label is not as said above.
    """

    images: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]
    name: str
    conditions: Tensor | None = None

    def __post_init__(self) -> None:
        _check_pixels(self.images, f"{self.name}: images")
        if self.conditions is not None:
            _check_pixels(self.conditions, f"{self.name}: conditions")
            given, wanted = ([len(pixels), *pixels.shape[2:]] for pixels in (self.conditions, self.images))
            if given != wanted:
                raise DataError(
                    f"{self.name}: conditions must match the images in number, height and width {wanted}, got {given}"
                )
        self._check_labels()

    def _check_labels(self) -> None:
        if self.labels is None:
            if self.classes:
                raise DataError(f"{self.name}: class names were given, but no labels")
            return
        if self.labels.dtype != torch.int64 or self.labels.shape != (len(self),):
            given = f"{self.labels.dtype} {list(self.labels.shape)}"
            raise DataError(f"{self.name}: labels must be int64 [{len(self)}], one an image, got {given}")
        if len(set(self.classes)) != len(self.classes):
            raise DataError(f"{self.name}: class names must differ from one another, got {', '.join(self.classes)}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(f"{self.name}: labels must lie in 0..{len(self.classes) - 1}, found {low}..{high}")

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width in pixels."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def subset(self, indices: Tensor | Sequence[int] | slice, name: str | None = None) -> ImageData:
        """The images at these positions, in this order; the class names stay the same."""
        at = indices if isinstance(indices, slice) else torch.as_tensor(indices, dtype=torch.int64)
        labels = None if self.labels is None else self.labels[at]
        conditions = None if self.conditions is None else self.conditions[at]
        return ImageData(self.images[at], labels, self.classes, name or self.name, conditions)

    def fit(
        self, size: int | None = None, channels: int | None = None, *, condition_channels: int | None = None
    ) -> ImageData:
        """The same images and conditions, ``size`` pixels square, with so many channels each (None = as they are)."""
        images = fit(self.images, size, channels)
        conditions = None if self.conditions is None else fit(self.conditions, size, condition_channels)
        return replace(self, images=images, conditions=conditions)

    def sha256(self) -> str:
        """A hash of pixels, labels, class names and conditions: equal for equal data, wherever they were read from."""
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.classes)).encode())
        for tensor in (self.images, self.labels):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().tobytes())
        if self.conditions is not None:
            digest.update(repr(("conditions", tuple(self.conditions.shape))).encode())
            digest.update(self.conditions.contiguous().numpy().tobytes())
        return digest.hexdigest()


def _check_pixels(pixels: Tensor, what: str) -> None:
    if pixels.dtype != torch.uint8:
        raise DataError(f"{what} must be uint8 (0-255), got {pixels.dtype}; scale and convert them")
    shape = list(pixels.shape)
    if len(shape) != 4 or shape[1] not in (1, 3) or 0 in shape:
        raise DataError(f"{what} must be [N, 1 or 3, H, W] and not empty, got {shape}")


def numbered(
    labels: Tensor, values: Tensor, what: str, names: Sequence[str] | None = None
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as positions among those that are classes, and the names of these: no class is without images.

    Args:
        labels: whole numbers ``[N]``, from wherever they begin.
        values: the labels that are classes, those that occur where a model learns.
        what: what messages call the data.
        names: of the labels from 0; None names them by their numbers.

    Raises:
        DataError: a label is no class, or has no name.
    """
    classes = values.unique()
    if strange := sorted(set(labels.tolist()) - set(classes.tolist())):
        raise DataError(f"{what} has labels that the training images have not: {', '.join(map(str, strange[:5]))}")
    if names is None:
        return torch.searchsorted(classes, labels), tuple(str(value) for value in classes.tolist())
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or high >= len(names):
        raise DataError(f"{what}: labels must lie in 0..{len(names) - 1}, found {low}..{high}")
    return torch.searchsorted(classes, labels), tuple(names[value] for value in classes.tolist())


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1], any shape."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8 0..255, any shape: clipped to the range and rounded. Undoes ``to_float``."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def fit(images: Tensor, size: int | None = None, channels: int | None = None) -> Tensor:
    """Crop uint8 ``[N, C, H, W]`` to its central square, resize it and convert between grey and colour.

    Args:
        size: pixels of the new side, bicubic with antialiasing; None leaves the shape alone.
        channels: 1 or 3; None leaves the colours alone.
    """
    if channels not in (None, 1, 3):
        raise DataError(f"channels must be 1 (grey) or 3 (colour), got {channels}")
    if size is not None and size < 1:
        raise DataError(f"the image size must be at least 1 pixel, got {size}")
    if channels == 3 and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    elif channels == 1 and images.shape[1] == 3:
        grey = images.to(torch.float32) * torch.tensor(_LUMA)[:, None, None]
        images = grey.sum(1, keepdim=True).round().to(torch.uint8)
    if size is None or images.shape[2:] == (size, size):
        return images.contiguous()
    side = min(images.shape[2:])
    top, left = ((extent - side) // 2 for extent in images.shape[2:])
    square = images[:, :, top : top + side, left : left + side]
    return F.interpolate(square, (size, size), mode="bicubic", antialias=True)
