"""Drawings as a model of line art knows them: dark lines on a light ground."""

from __future__ import annotations

import torch
from torch import Tensor

INVERTED = "the drawing has light lines on a dark ground; it was inverted, since the model knows dark lines on light"


def upright(drawing: Tensor, line_art: bool) -> tuple[Tensor, list[str]]:
    """A condition ``[C, H, W]`` in [-1, 1] as the model knows it, and a warning if it had to be inverted.

    Args:
        drawing: as it was sent.
        line_art: whether the model was trained on dark lines on a light ground; else nothing is changed.
    """
    if not (line_art and _on_dark_ground(drawing)):
        return drawing, []
    return -drawing, [INVERTED]


def _on_dark_ground(drawing: Tensor) -> bool:
    """Whether most pixels are dark, and most at the border: a large dark object on a light ground is not meant."""
    border = torch.cat([drawing[:, 0], drawing[:, -1], drawing[:, :, 0], drawing[:, :, -1]], 1)
    return bool(drawing.median() < 0) and bool(border.median() < 0)
