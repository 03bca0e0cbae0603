"""Image files: decoding them, and joining them to one tensor. Which files a folder has is told by :mod:`layouts`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.data.images import DataError, fit
from pictures.files import OWN_FILES, BadPictureError, TooLargeError, examine


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
    """One file as uint8 ``[1, C, H, W]``: upright, sRGB and on white where it is transparent, as in requests.

    Raises:
        DataError: it is damaged, or no picture that can be used.
    """
    from pictures.decoding import read  # Pillow: models load and train without it, too
    from pictures.framing import on_white

    with _named(path):
        picture = read(path.read_bytes(), OWN_FILES)
    flat = on_white(picture, 1 if picture.mode in ("L", "LA") else 3)
    pixels = np.array(flat)
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)[None]


def extent(path: Path) -> tuple[int, int]:
    """Width and height in pixels of the upright picture, as the file's header has them.

    Raises:
        DataError: it is damaged or no picture.
    """
    with _named(path):
        return examine(path.read_bytes(), OWN_FILES, counted=False).size


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
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except (BadPictureError, TooLargeError) as error:
        raise DataError(f"{path} can't be used: {error}; mend or remove it") from error
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
