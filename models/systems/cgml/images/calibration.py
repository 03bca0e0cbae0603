"""What is measured once on held-out images: the scale on which uncertainty is shown."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from models.core.loop import Loop, Task, run
from models.core.noise import row_seeds
from models.data.images import ImageData
from models.samplers.predicted import pushes, walk_rows
from models.systems.cgml.batch import Batch
from models.systems.cgml.images.abilities import OPTIONS, STEPS
from models.systems.cgml.images.model import Cgml
from models.systems.cgml.images.poses import POSES
from models.systems.cgml.variation import variance

_IMAGES, _PLACES = 32, 16
_SHARE = 0.99
_SEED = 7


def calibrate(model: Cgml, data: ImageData) -> dict[str, Any]:
    """For a card's ``calibration``: ``uncertainty_scale``, below which 99 % of the variances on such images lie."""
    fitted = data.fit(model.config.image_size, model.config.channels)
    batch = POSES[model.config.task](model.config, fitted, model.device).fixed(_IMAGES)
    return {"data": data.name, **uncertainty_scale(model, batch)}


def uncertainty_scale(model: Cgml, batch: Batch) -> dict[str, Any]:
    """The part of it that is measured on some examples; nothing for a model with one answer."""
    if model.config.training.deterministic:
        return {}
    values = run(_variances(model, batch.c), device=model.device)
    counted = values[batch.weights > 0.5] if bool((batch.weights > 0.5).any()) else values.flatten()
    scale = float(torch.quantile(counted.float().cpu()[:1_000_000], _SHARE))
    return {
        "images": len(batch.c),
        "uncertainty_scale": float(f"{max(scale, 1e-8):.4g}"),
        "uncertainty_places": _PLACES,
        "uncertainty_delta": OPTIONS["delta"]["default"],
    }


def _variances(model: Cgml, c: Tensor) -> Task[Tensor]:
    seeds = row_seeds(_SEED, len(c))
    code = yield Loop(model.encode, {"c": c}, steps=1, seeds=seeds)
    rows = yield Loop(model.begin, {"a": code["a"]}, steps=1, seeds=seeds)
    state = walk_rows(rows["z"], alpha=1.0, pushed=pushes("push_settle", STEPS)) | {"a": code["a"]}
    rows = yield Loop(model.walk, state, steps=STEPS, seeds=seeds)
    z = rows["z"]
    blank = torch.zeros(len(z), model.config.channels_out, model.config.size, model.config.size, device=z.device)
    around = {"delta": z.new_full((len(z), 1), OPTIONS["delta"]["default"]), "mean": blank, "spread": blank}
    rows = yield Loop(model.vary, {"z": z, **model.drawn_from(code), **around}, steps=_PLACES, seeds=seeds)
    return variance(rows["spread"], _PLACES)
