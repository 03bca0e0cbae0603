"""What a task returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Output:
    """What a task returns: one entry a row.

    Args:
        images: ``[n, C, H, W]`` in [-1, 1]; None for a task that gives numbers alone.
        energy: ``[n]``, minus the value f; comparable only between images of one condition. None: the method has none.
        seeds: the noise seed of each row.
        numbers: what else is known of each row, by name: for each name one value a row that JSON can hold.
        extras: further pictures a row, each ``[n, C, H, W]``, by name.
        surfaces: the coefficients of radial functions ``[n, L^2]``, in the order and scale of
            :class:`models.core.jobs.DenoiseJob`; None for images.
        animated: the rows are the frames of one sequence.
        film: the way of each row to its image, ``[n, frames, C, H, W]``; None if it was not asked for.
        warnings: what is unusual about the input or the result, for the job's record.

    A row whose chain has diverged beside others that have not is NaN in its image, surface or energy, see :meth:`lost`.
    """

    images: Tensor | None
    energy: Tensor | None
    seeds: Sequence[int]
    numbers: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    surfaces: Tensor | None = None
    animated: bool = False
    film: Tensor | None = None
    warnings: Sequence[str] = ()

    def lost(self) -> list[int]:
        """The rows that have diverged, by number."""
        whole = torch.ones(len(self.seeds), dtype=torch.bool)
        for value in (self.images, self.energy, self.surfaces):
            if value is not None:
                whole &= (
                    value.detach().cpu().isfinite().flatten(1).all(1) if value.dim() > 1 else value.cpu().isfinite()
                )
        return (~whole).nonzero().flatten().tolist()
