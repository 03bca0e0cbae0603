"""What an inpainting is conditioned on."""

from __future__ import annotations

import torch
from torch import Tensor


def condition_of(y: Tensor, mask: Tensor) -> Tensor:
    """What an inpainting is given: the image with its hidden pixels (mask 1) at 0, and the mask as one more channel."""
    return torch.cat([torch.where(mask > 0, torch.zeros_like(y), y), mask.to(y.dtype)], 1)
