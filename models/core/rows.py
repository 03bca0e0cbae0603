"""Rows of images: what the tasks of all systems do with them."""

from __future__ import annotations

import torch
from torch import Tensor

from models.core.loop import Rows

MAX_PIXEL = 5.0
"""Images live in [-1, 1]; a chain beyond this has diverged."""

MAX_STEPS = 200
"""The most refinement steps that a request may ask for, unless a card says otherwise."""

_FRAMES = 16


def pictures(rows: Rows) -> Tensor:
    """The images of the rows, clipped to [-1, 1]."""
    return rows["y"].clamp(-1, 1)


def repeat(image: Tensor, n: int, device: torch.device) -> Tensor:
    """One picture ``[C, H, W]`` as the state of n rows."""
    return image.to(device).expand(n, *image.shape).clone()


def begin_film(images: Tensor, steps: int) -> Rows:
    """The state that notes the way from these images over so many steps, for ``kernels.values.filmed``.

    At most 16 frames before the last one, evenly spaced.
    """
    every = max(1, -(-steps // _FRAMES))
    frames = max(1, -(-steps // every))
    return {
        "film": images[:, None].repeat(1, frames, 1, 1, 1),
        "every": torch.full((len(images),), every, device=images.device),
    }


def end_film(rows: Rows) -> Tensor:
    """The noted frames and the images as they are now, ``[n, frames, C, H, W]`` in [-1, 1]."""
    return torch.cat([rows["film"], rows["y"][:, None]], 1).clamp(-1, 1)


_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def with_lightness(images: Tensor, grey: Tensor) -> Tensor:
    """Coloured images ``[n, 3, H, W]`` with the lightness ``[1, H, W]`` of another picture, all in [-1, 1].

    The differences of the channels from their lightness stay, or are shortened alike where a channel would leave the
    range: so the lightness is always the one that was given.
    """
    own = (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    colour = images - own
    room = torch.where(colour > 0, 1 - grey, 1 + grey) / colour.abs().clamp(min=1e-6)
    return (grey + colour * room.amin(1, keepdim=True).clamp(0, 1)).clamp(-1, 1)
