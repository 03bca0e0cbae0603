"""What the values of real images are, against which the value of one image is set.

A value f by itself says little: its scale and its zero are free. So a card keeps how the values of real images lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.core.loop import Kernel, Loop, Rows, Task, run

_QUANTILES = 21  # from the least to the greatest value, in steps of 5 %


CHUNK = 250
"""Images whose values are computed at once."""


def values(evaluate: Kernel, chunks: Iterable[Rows], device: torch.device) -> Tensor:
    """The values f of rows, ``[n]`` on the CPU, a chunk at a time.

    Args:
        evaluate: adds ``f`` to rows.
        chunks: rows on any device.
        device: where the model is.
    """

    def task(rows: Rows) -> Task[Tensor]:
        rows = {name: value.to(device) for name, value in rows.items()}
        rows = yield Loop(evaluate, rows, steps=1, seeds=[0] * len(next(iter(rows.values()))))
        return rows["f"].cpu()

    return torch.cat([run(task(rows), device=device) for rows in chunks])


def summary(values: Tensor) -> dict[str, Any]:
    """Number, mean, standard deviation and 21 evenly spaced quantiles of values ``[n]``, n >= 2, as plain numbers."""
    values = values.double()
    quantiles = torch.quantile(values, torch.linspace(0, 1, _QUANTILES, dtype=torch.float64))
    return {
        "images": len(values),
        "mean": float(values.mean()),
        "std": float(values.std()),
        "quantiles": [float(f"{q:.6g}") for q in quantiles.tolist()],
    }


def against(known: Mapping[str, Any], f: float) -> dict[str, float]:
    """A value against those of real images: ``calibrated``, (f - mean) / std, and ``percentile``, 0 to 100.

    Args:
        known: what :func:`summary` gave.
        f: the value, of the same condition.
    """
    percentile = np.interp(f, known["quantiles"], np.linspace(0, 100, len(known["quantiles"])))
    return {"calibrated": (f - known["mean"]) / known["std"], "percentile": float(percentile)}
