"""Rows of images to PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from models.data.images import to_uint8
from pictures.png import png_of

FRAME_MS = 120
"""How long each frame of an animation is shown."""


def pictures_of(images: Tensor) -> list[Image.Image]:
    """Images ``[n, C, H, W]`` in [-1, 1] on any device; C = 1 is grey, 3 is colour."""
    # All at once: around each operation a thread gives up the interpreter's lock, and waits for it again.
    arrays = to_uint8(images.detach().cpu()).permute(0, 2, 3, 1).contiguous().numpy()
    return [Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array) for array in arrays]


def picture_of(image: Tensor) -> Image.Image:
    """One image ``[C, H, W]``."""
    return pictures_of(image[None])[0]


def png(image: Tensor) -> bytes:
    """One image ``[C, H, W]`` in [-1, 1] as PNG."""
    return png_of(picture_of(image))


def animation_of(frames: Sequence[Image.Image]) -> bytes:
    """Frames as one animated PNG, which loops without end. Lossless; where it can't be played the first frame shows."""
    file = io.BytesIO()
    frames[0].save(
        file, "PNG", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, compress_level=1, disposal=0
    )
    return file.getvalue()


def strip(images: Tensor) -> Tensor:
    """``[n, C, H, W]`` side by side as one image ``[C, H, n * W]``."""
    n, channels, height, width = images.shape
    return images.permute(1, 2, 0, 3).reshape(channels, height, n * width)
