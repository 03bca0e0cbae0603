"""Class folders: ``root/<class>/*.png`` (or jpg, webp). The folder's name is the class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.data.images import DataError, ImageData, fit

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_GREY_MODES = frozenset({"1", "L", "LA"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


def class_names(root: Path) -> list[str]:
    """The names of the class folders in ``root``, sorted; hidden folders are none."""
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_folders(
    root: Path, *, size: int | None = None, channels: int | None = None, classes: Sequence[str] | None = None
) -> ImageData:
    """Read all images of the class folders in ``root``; files of other kinds are passed over.

    Transparent images are laid on white. Without ``channels`` the set is grey if all its files are, else colour.

    Args:
        size: crop to the central square and resize to this many pixels; None needs files that are all of one size.
        channels: 1 converts to grey, 3 to colour.
        classes: the class names, if another split has set them; None takes the folders that are there.

    Raises:
        DataError: no images, a damaged one, several sizes, or a folder that is no class.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    found = class_names(root)
    names = tuple(classes) if classes is not None else tuple(found)
    strangers = sorted(set(found) - set(names))
    if strangers:
        raise DataError(f"{root} has class folders that the training split has not: {', '.join(strangers)}")
    files = [(path, names.index(name)) for name in found for path in _image_files(root / name)]
    if not files:
        kinds = ", ".join(sorted(EXTENSIONS))
        raise DataError(f"{root} holds no images; put them into one folder a class ({root.name}/<class>/*: {kinds})")
    pictures = [_decode(path) for path, _ in files]
    if channels is None:
        channels = max(picture.shape[1] for picture in pictures)
    images = _stack([fit(picture, size, channels) for picture in pictures], [path for path, _ in files])
    return ImageData(images, torch.tensor([label for _, label in files]), names, root.name)


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.is_file())


def _decode(path: Path) -> Tensor:
    """One file as uint8 ``[1, C, H, W]``."""
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is damaged or no image ({error}); mend or remove it") from error
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


def _stack(pictures: Sequence[Tensor], paths: Sequence[Path]) -> Tensor:
    first = pictures[0].shape[2:]
    for picture, path in zip(pictures, paths, strict=True):
        if picture.shape[2:] != first:
            sizes = " and ".join(f"{width}x{height}" for height, width in (first, picture.shape[2:]))
            raise DataError(f"the images differ in size ({sizes} pixels at {path}); pass --image-size to resize them")
    return torch.cat(list(pictures))
