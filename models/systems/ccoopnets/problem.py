"""What the cooperative training must know of the kind of condition: a label, or an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from models.core.loop import Rows


@dataclass(frozen=True)
class Batch:
    """Observed images with their conditions, and the noise from which the initializer answers.

    Args:
        y: observed images ``[n, C, H, W]``.
        c: conditions, as both networks take them.
        x: the initializer's noise: a latent, or dropout masks.
        extra: further state of the refinement's rows (``mask``).
    """

    y: Tensor
    c: Tensor
    x: Any
    extra: Rows = field(default_factory=dict)


class Problem(Protocol):
    """One kind of condition: its networks, its batches and its losses."""

    def build(self) -> tuple[nn.Module, nn.Module]:
        """Fresh initializer and solver."""

    def batch(self, iteration: int, salt: int) -> Batch:
        """The batch of one iteration, a function of its arguments and the seed."""

    def propose(self, initializer: nn.Module, batch: Batch) -> Tensor:
        """The initializer's answer Y^."""

    def initializer_loss(self, proposal: Tensor, refined: Tensor, batch: Batch) -> Tensor:
        """The regression of the initializer onto the refined images (eq. 8), with what the problem adds."""

    def solver_terms(self, solver: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Terms that the problem adds to the solver's loss, by name, each already weighted."""

    def served(self, ema_initializer: nn.Module) -> nn.Module:
        """The initializer to serve: the averaged one, with statistics that suit it."""

    def sheet(self) -> Batch:
        """The conditions and noise of the sample sheet, the same each time."""

    def show(self, batch: Batch, proposal: Tensor, refined: Tensor) -> Tensor:
        """A sheet ``[rows, columns, C, H, W]``."""
