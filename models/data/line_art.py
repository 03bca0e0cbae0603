"""Line art made from coloured pictures, on the device: what teaches a model to colour drawings by any hand.

A set of aligned pairs knows one hand. Edges of any coloured picture are line art too: drawn here at several
thicknesses, in black or grey, with gaps, and with or without solid blacks, so that no two hands are alike.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_FINE = 2
"""Edges are drawn at this many times the picture's size and then averaged, so that strokes have soft rims."""
_WIDTHS = (3, 3, 5, 5, 7)  # of strokes, in fine pixels
_LUMA = (0.299, 0.587, 0.114)


def transformed(stack: Tensor, *, share: float, size: int, mode: str, u: Tensor, ground: Tensor) -> Tensor:
    """Images shifted and mirrored by whole pixels, a ``share`` of them also scaled and turned.

    Args:
        stack: ``[n, C, H, H]`` in [0, 1].
        share: of the rows that are scaled (0.7 to 1.1) and turned (up to 12 degrees).
        size: pixels of the side of the result.
        mode: how :func:`torch.nn.functional.grid_sample` interpolates.
        u: uniform numbers ``[n, 6]``.
        ground: what lies outside of the images, ``[C, 1, 1]``.
    """
    free = (u[:, 0] < share).float()
    scale = 1 + free * (u[:, 1] * 0.5 - 0.1)  # of the grid: above 1 makes pictures smaller
    angle = free * (u[:, 2] - 0.5) * 0.42
    mirror = torch.where(u[:, 3] < 0.5, -1.0, 1.0)
    pixel = 2 / stack.shape[-1]
    shift = ((u[:, 4:6] - 0.5) * 13).round() * pixel
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([cos * mirror, -sin, shift[:, 0], sin * mirror, cos, shift[:, 1]], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(stack), stack.shape[1], size, size], align_corners=False)
    return (F.grid_sample(stack - ground, grid, mode=mode, align_corners=False) + ground).clamp(0, 1)


def strokes(fine: Tensor, u: Tensor) -> Tensor:
    """How much ink lies on each pixel, ``[n, 1, H, H]`` in [0, 1], where colours or transparency change.

    Args:
        fine: pictures with their opacity as a fourth channel, ``[n, 4, 2H, 2H]`` in [0, 1].
        u: uniform numbers ``[n, 6]``.
    """
    low, width, _, _, solid, _ = (u[:, k, None, None, None] for k in range(6))
    smooth = F.avg_pool2d(F.pad(fine, (1, 1, 1, 1), mode="replicate"), 3, 1)
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]).abs().amax(1, keepdim=True)
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]).abs().amax(1, keepdim=True)
    strength = torch.maximum(across, down)
    lines = torch.where(
        across >= down,
        strength >= F.max_pool2d(strength, (1, 3), 1, (0, 1)),
        strength >= F.max_pool2d(strength, (3, 1), 1, (1, 0)),
    ) & (strength > 0.05 + 0.2 * low.square())
    ink = torch.zeros_like(strength)
    for k, extent in enumerate(_WIDTHS):
        chosen = (width * len(_WIDTHS)).floor() == k
        ink = torch.where(chosen, F.max_pool2d(lines.float(), extent, 1, extent // 2), ink)
    red, green, blue = (weight * smooth[:, k : k + 1] for k, weight in enumerate(_LUMA))
    ink = torch.where((solid < 0.35) & (red + green + blue < 0.2), torch.ones_like(ink), ink)
    return F.avg_pool2d(ink, _FINE)


def drawn(ink: Tensor, gaps: Tensor, u: Tensor) -> Tensor:
    """The drawing, ``[n, 1, H, H]`` in [0, 1] (1 = white): ink in black or grey, with gaps in half of the rows.

    Args:
        ink: see :func:`strokes`.
        gaps: uniform numbers ``[n, 1, k, k]``; small ones leave a gap.
        u: the uniform numbers that :func:`strokes` had.
    """
    rate, grey = u[:, 2, None, None, None], u[:, 3, None, None, None]
    field = F.interpolate(gaps, ink.shape[-2:], mode="bilinear", align_corners=False)
    kept = (field > 0.5 * (rate - 0.5).clamp(min=0)).float()
    shade = torch.where(grey < 0.6, torch.ones_like(grey), 2.5 * grey - 1.1).clamp(0.4, 1)
    return 1 - ink * kept * shade


def synthesize(stack: Tensor, size: int, *, share: float = 0.5) -> tuple[Tensor, Tensor]:
    """Coloured pictures with the drawing's strokes on them, and the drawing.

    Args:
        stack: pictures with their opacity, ``[n, 4, H, H]`` in [0, 1].
        size: H.
        share: see :func:`transformed`.

    Returns:
        ``[n, 3, H, H]`` and ``[n, 1, H, H]``, both in [0, 1].
    """
    n, device = len(stack), stack.device
    u, v = torch.rand(n, 6, device=device), torch.rand(n, 6, device=device)
    ground = torch.cat([torch.ones(3, 1, 1, device=device), torch.zeros(1, 1, 1, device=device)])
    picture = transformed(stack, share=share, size=size, mode="bicubic", u=u, ground=ground)[:, :3]
    fine = transformed(stack, share=share, size=_FINE * size, mode="bilinear", u=u, ground=ground)
    drawing = drawn(strokes(fine, v), torch.rand(n, 1, 12, 12, device=device), v)
    return picture * drawing, drawing
