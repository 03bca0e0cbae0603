"""Rows of images to PNG files."""

from __future__ import annotations

import io

from PIL import Image
from torch import Tensor

from models.data.images import to_uint8


def png(image: Tensor) -> bytes:
    """One image ``[C, H, W]`` in [-1, 1] as PNG; C = 1 is grey, 3 is colour. Equal images give equal bytes."""
    array = to_uint8(image).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)  # pictures are small: time matters more than a few bytes
    return file.getvalue()


def strip(images: Tensor) -> Tensor:
    """``[n, C, H, W]`` side by side as one image ``[C, H, n * W]``."""
    n, channels, height, width = images.shape
    return images.permute(1, 2, 0, 3).reshape(channels, height, n * width)
