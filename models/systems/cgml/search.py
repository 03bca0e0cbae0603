"""Descents in the latent that see the target: what the predictor learns to imitate. They are for training alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from models.samplers.domains import Domain

_LONGEST = 0.5
"""A step is never longer, in the units of the domain."""
_MEMORY = 100.0
"""Steps over which a typical gradient is averaged while the size of steps is found."""


@final
@dataclass(frozen=True)
class Descent:
    """Where a descent went.

    Args:
        places: z_0 to z_l, ``[l + 1, n, d]``.
        errors: of each place but the last, ``[l, n]``.
        gradient: the median length of the tangent gradients, ``[]``.
    """

    places: Tensor
    errors: Tensor
    gradient: Tensor


@final
class Search:
    r"""Steps ``z <- retract(z - beta g)``, g the tangent part of the gradient of the row's own error.

    beta is ``step`` over the typical length of g while :attr:`finding` is 1, and stays then. All numbers lie on the
    device.

    Args:
        domain: where latents live.
        step: the length of a typical step, in units of the domain's scale.
        device: of the numbers.
    """

    def __init__(self, domain: Domain, step: float, device: torch.device) -> None:
        self._domain, self._step = domain, step * domain.scale
        self._longest = _LONGEST * domain.scale
        self.typical, self.seen, self.finding = (torch.zeros((), device=device) for _ in range(3))

    @property
    def beta(self) -> Tensor:
        """The factor of the gradient, ``[]``."""
        return self._step / self.typical.clamp_min(1e-12)

    def descend(
        self, error: Callable[[Tensor], Tensor], z: Tensor, steps: int, watch: Callable[[Tensor, Tensor], None]
    ) -> Descent:
        """Some steps from z.

        Args:
            error: z -> the error of each row ``[n]``; parameters are frozen.
            z: starts ``[n, d]``.
            steps: how many.
            watch: called with the place before and after each step.
        """
        places, errors, gradients = [z], [], []
        for _ in range(steps):
            at = z.detach().requires_grad_(True)
            with torch.enable_grad():
                each = error(at)
                # The sum is differentiated: a row's step knows nothing of the rows beside it.
                (gradient,) = torch.autograd.grad(each.sum(), at)
            along = self._domain.tangent(z, gradient)
            length = along.norm(dim=1)
            self._learn(length)
            size = (self.beta * length).clamp(max=self._longest)
            moved = self._domain.retract(z - along * (size / length.clamp_min(1e-12))[:, None])
            watch(z, moved)
            z = moved
            places.append(z)
            errors.append(each.detach())
            gradients.append(_median(length))
        return Descent(torch.stack(places), torch.stack(errors), torch.stack(gradients).mean())

    def _learn(self, length: Tensor) -> None:
        """A running mean of the median length, which first is that of all there were."""
        self.seen.add_(self.finding)
        rate = self.finding / self.seen.clamp(min=1, max=_MEMORY)
        self.typical.lerp_(_median(length), rate)

    def state(self) -> dict[str, Tensor]:
        return {"search.typical": self.typical, "search.seen": self.seen}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.typical.copy_(state["search.typical"])
        self.seen.copy_(state["search.seen"])


def _median(values: Tensor) -> Tensor:
    return values.sort().values[len(values) // 2]
