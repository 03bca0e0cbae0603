"""Z: where a descent would move a latent vector, and how far, learned from descents that saw the target."""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.systems.cgml.networks import NetworkConfig

_SLOPE = 0.2
_FIRST_LENGTH = 0.1
"""The expected length of a step before anything is learned."""


@final
class Predictor(nn.Module):
    """concat(h, z) -> the displacement Delta ``[n, d]`` and the expected length rho ``[n]`` of a step.

    Its first layer is a sum of a part of h and one of z. The former, :meth:`given`, is the same in all steps of a row.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self._code, self._scale = math.prod(config.code), config.bound if config.domain == "box" else 1.0
        self.first = nn.Linear(self._code + config.latent, config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)
        self.displacement = nn.Linear(config.hidden, config.latent)
        self.length = nn.Linear(config.hidden, 1)
        # z is few numbers beside h, and all depends on them: with the usual weights it would hardly be seen at first.
        nn.init.normal_(self.first.weight[:, self._code :])
        with torch.no_grad():
            for parameter in self.displacement.parameters():
                parameter.mul_(_FIRST_LENGTH)  # else the first moves would be many steps long
            self.length.bias.fill_(math.log(math.expm1(_FIRST_LENGTH * self._scale)))

    def given(self, h: Tensor) -> Tensor:
        """a = W_h h + b, ``[n, hidden]``."""
        return F.linear(h.flatten(1), self.first.weight[:, : self._code], self.first.bias)

    def moves(self, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        """Delta and rho at z; a box's numbers are seen as parts of its bound. Dimensions before the last are free."""
        x = F.leaky_relu(F.linear(z / self._scale, self.first.weight[:, self._code :]) + a, _SLOPE)
        x = F.leaky_relu(self.second(x), _SLOPE)
        return self.displacement(x), F.softplus(self.length(x)).squeeze(-1)

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return self.moves(z, self.given(h))
