"""Holders of the parameters of convolutions whose kernels are scaled before they are used."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

_WARM_UP = 30
"""Power iterations at construction: the first chain runs before any update, and with a random start of the singular
vectors the served kernel's largest singular value can be 32 instead of 1."""


class Equalised(nn.Module):
    """A 1x1 convolution with an equalised learning rate: standard normal weights, times sqrt(2 / fan_in) when used."""

    def __init__(self, fan_in: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, fan_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out))
        self._scale = math.sqrt(2 / fan_in)

    def plain(self) -> tuple[Tensor, Tensor]:
        """The weight ``[out, in, 1, 1]`` as it is used, and the bias."""
        return self.weight * self._scale, self.bias


class Convolution(nn.Conv2d):
    """A convolution as a holder of parameters; its kernel may be under spectral normalisation."""

    def __init__(self, channels: int, out: int, kernel: int, spectral: bool) -> None:
        super().__init__(channels, out, kernel)
        if spectral:
            parametrizations.spectral_norm(self, n_power_iterations=1)
            with torch.no_grad():
                for _ in range(_WARM_UP):
                    self.weight  # noqa: B018 - reading it in training mode is one power iteration

    def plain(self) -> tuple[Tensor, Tensor]:
        """The normalised kernel and the bias. In training mode each call is one power iteration."""
        assert self.bias is not None
        return self.weight, self.bias
