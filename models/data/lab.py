"""CIE L*a*b* of sRGB under D65, on whatever device the images are: L* is lightness, (a*, b*) the colour."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_TO_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)  # linear sRGB to XYZ, IEC 61966-2-1
_KNEE, _SLOPE = (6 / 29) ** 3, (29 / 6) ** 2 / 3


def to_lab(images: Tensor) -> Tensor:
    """sRGB ``[n, 3, H, W]`` in [-1, 1] -> L* (0 to 100), a* (-86 to 98) and b* (-108 to 94), ``[n, 3, H, W]``."""
    matrix, _ = _matrices(images.device, images.dtype)
    f = _root(torch.einsum("ij,njhw->nihw", matrix, _linear((images + 1) / 2)))
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def to_rgb(lab: Tensor) -> Tensor:
    """L*, a*, b* ``[n, 3, H, W]`` -> sRGB in [-1, 1]. Colours that sRGB lacks are made paler, and keep their lightness.

    In linear light all greys of one lightness are one number in all three channels; the differences from it are
    shortened alike until no channel is out of range.
    """
    _, inverse = _matrices(lab.device, lab.dtype)
    light, a, b = lab.unbind(1)
    y = (light + 16) / 116
    xyz = torch.stack([_cube(y + a / 500), _cube(y), _cube(y - b / 200)], 1)
    linear = torch.einsum("ij,njhw->nihw", inverse, xyz)
    grey = xyz[:, 1:2].clamp(0, 1)
    colour = linear - grey
    room = torch.where(colour > 0, 1 - grey, grey) / colour.abs().clamp(min=1e-9)
    return 2 * _encoded(grey + colour * room.amin(1, keepdim=True).clamp(0, 1)) - 1


def lightness(grey: Tensor) -> Tensor:
    """L* (0 to 100) of grey pictures ``[n, 1, H, W]`` in [-1, 1]."""
    return 116 * _root(_linear((grey + 1) / 2)) - 16


@cache
def _matrices(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Linear sRGB to X, Y, Z as parts of white's, and back; kept, since copies make a device wait."""
    matrix = torch.tensor(_TO_XYZ, dtype=torch.float64)
    relative = matrix / matrix.sum(1, keepdim=True)
    return relative.to(device, dtype), torch.linalg.inv(relative).to(device, dtype)


def _linear(s: Tensor) -> Tensor:
    return torch.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055).clamp(min=0) ** 2.4)


def _encoded(v: Tensor) -> Tensor:
    v = v.clamp(0, 1)
    return torch.where(v <= 0.0031308, 12.92 * v, 1.055 * v.clamp(min=1e-9) ** (1 / 2.4) - 0.055)


def _root(t: Tensor) -> Tensor:
    return torch.where(t > _KNEE, t.clamp(min=_KNEE) ** (1 / 3), _SLOPE * t + 4 / 29)


def _cube(f: Tensor) -> Tensor:
    return torch.where(f > 6 / 29, f**3, (f - 4 / 29) / _SLOPE)
