"""What is measured once on held-out images, so that requests need not find it: sigma, and tables of step sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.core.loop import Rows, run_together
from models.core.noise import mix
from models.data.holes import holes
from models.data.images import ImageData, to_float
from models.samplers.cogeneration import Cogeneration
from models.samplers.observation import Observation, chain, grayscale, window
from models.systems.aishmc.model import GanModel
from models.systems.aishmc.pilot import pilot
from models.systems.aishmc.settings import Settings
from models.systems.aishmc.solver import solve
from models.systems.aishmc.tasks.reconstruct import all_of
from models.systems.aishmc.tasks.upscale import pooled

_IMAGES, _PILOTED = 32, 4
_LEAST_SIGMA = 0.05
_SEED = 7


def calibrate(model: GanModel, data: ImageData, *, gradients: int = 1_000, temperatures: int = 200) -> dict[str, Any]:
    """For a card's ``calibration``.

    - ``sigma``: the root of the median squared difference a pixel between images and what descent from the best of
      many starts makes of them; at least 0.05.
    - ``spread``: the median squared difference a pixel between images and draws from the prior.
    - ``step_sizes``: for each task the table of step sizes, geometric means over some images.

    Args:
        gradients: of the descent.
        temperatures: of the pilots.
    """
    fitted = data.fit(model.config.image_size, model.config.channels)
    order = torch.randperm(len(fitted), generator=torch.Generator().manual_seed(_SEED))
    images = to_float(fitted.images[order[:_IMAGES]])
    sigma = max(_LEAST_SIGMA, math.sqrt(_residual(model, images, gradients, 512)))
    spread = _residual(model, images, 1, 1)
    # Half of sigma, so that requests that ask for less than sigma find step sizes, too.
    how = Settings(sigma=sigma / 2, spread=spread, temperatures=temperatures)
    kinds = _observations(model, images[:_PILOTED])
    tables = {task: piloted(model.kernels, seen, how, [{}] * len(seen)) for task, seen in kinds.items()}
    tables["score"] = tables["reconstruct"]  # which sees the same
    return {"data": data.name, "images": len(images), "sigma": sigma, "spread": spread, "step_sizes": tables}


def _residual(model: GanModel, images: Tensor, gradients: int, starts: int) -> float:
    """The median over images of the mean squared difference from what descent finds."""
    rate = 0.05 if gradients > 1 else 0.0
    how = Settings(solver="gd_multi", temperatures=gradients, leapfrogs=1, starts=starts, rate=rate)
    seen = [all_of(model, image) for image in images]
    found = run_together(
        [solve(model.kernels, one, how, [mix(_SEED, k) >> 1]) for k, one in enumerate(seen)], device=model.device
    )
    return float(torch.stack([rows["misfit"][0] / one.scalars for rows, one in zip(found, seen, strict=True)]).median())


def _observations(model: GanModel, images: Tensor) -> dict[str, list[Observation]]:
    """What the tasks see of some images."""
    size, all_seen = model.config.image_size, torch.ones(1, 1, 1)
    factor = next((k for k in range(2, size + 1) if size % k == 0), 1)
    small = pooled(model, factor)
    border = model.padded(images)
    hidden = holes(len(images), size, _SEED)
    known = model.padded(1 - hidden, 0.0).to(model.device)
    whole = [all_of(model, image) for image in images]
    found = {
        "inpaint": [Observation(one.operator, one.y, m) for one, m in zip(whole, known, strict=True)],
        "reconstruct": whole,
        "upscale": [Observation(small, small(image), all_seen) for image in border],
    }
    if model.config.channels == 3:
        grey = chain(window(model.image_shape, model.margin), grayscale((3, size, size)))
        found["colorize"] = [Observation(grey, grey(image), all_seen) for image in border]
    return found


def piloted(
    kernels: Cogeneration, seen: Sequence[Observation], how: Settings, conditions: Sequence[Rows]
) -> list[float]:
    """One table of step sizes: geometric means over pilots of several observations.

    Args:
        conditions: of the decoder, one row each for one observation each.
    """
    tasks = [
        pilot(kernels, one, how, mix(_SEED, k), condition)
        for k, (one, condition) in enumerate(zip(seen, conditions, strict=True))
    ]
    means = torch.tensor(run_together(tasks, device=kernels.device), dtype=torch.float64).log().mean(0).exp()
    return [float(f"{size:.4g}") for size in means.tolist()]
