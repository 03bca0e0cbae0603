"""Image files: decoding them, and joining them to one tensor. Which files a folder has is told by :mod:`layouts`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.data.images import DataError, fit

_GREY_MODES = frozenset({"1", "L", "LA"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


def read_files(paths: Sequence[Path], *, size: int | None = None, channels: int | None = None) -> Tensor:
    """Image files as uint8 ``[N, C, H, W]``. Without ``channels`` they are grey if all of them are, else colour.

    Args:
        size: crop to the central square and resize to this many pixels; None needs files that are all of one size.
        channels: 1 converts to grey, 3 to colour.

    Raises:
        DataError: a file is damaged, or their sizes differ.
    """
    return join([fit(decode(path), size, channels) for path in paths], paths)


def decode(path: Path) -> Tensor:
    """One file as uint8 ``[1, C, H, W]``; what is transparent is laid on white.

    Raises:
        DataError: it is damaged, no image, or has more than 8 bits a channel.
    """
    with _opened(path) as image:
        image.load()
    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        raise DataError(f"{path} has pixels of kind {image.mode}; convert it to 8 bits a channel")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        flat = Image.alpha_composite(white, rgba)
    else:
        flat = image
    pixels = np.array(flat.convert("L" if image.mode in _GREY_MODES else "RGB"))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)[None]


def extent(path: Path) -> tuple[int, int]:
    """Width and height in pixels as the file's header has them.

    Raises:
        DataError: it is damaged or no image.
    """
    with _opened(path) as image:
        return image.size


def join(pictures: Sequence[Tensor], paths: Sequence[Path]) -> Tensor:
    """Pictures ``[1, C, H, W]`` as one ``[N, C, H, W]``: grey if all of them are, else colour.

    Args:
        paths: where they come from, for messages.

    Raises:
        DataError: their sizes differ.
    """
    first = pictures[0].shape[2:]
    for picture, path in zip(pictures, paths, strict=True):
        if picture.shape[2:] != first:
            sizes = " and ".join(f"{width}x{height}" for height, width in (first, picture.shape[2:]))
            raise DataError(
                f"the images differ in size ({sizes} pixels at {path}); resize them with --image-size (image_size)"
            )
    channels = max(picture.shape[1] for picture in pictures)
    return torch.cat([fit(picture, channels=channels) for picture in pictures])


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is damaged or no image ({error}); mend or remove it") from error
