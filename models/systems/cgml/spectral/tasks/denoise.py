"""A noisy surface, cleaned."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from models.core.jobs import DenoiseJob, needed
from models.core.loop import Loop, Task
from models.core.output import Output
from models.systems.cgml.images.tasks.answers import answer
from models.systems.cgml.spectral.model import Spectral


def denoise(model: Spectral, job: DenoiseJob) -> Task[Output]:
    """n cleaned surfaces, their unknown coefficients filled in (section 5.4, Appendix 3.12).

    Images are rendered pictures. Extras: ``given``, the noisy surface; ``map`` and ``map_given``, the spectral maps;
    what the options of cGML give is of the map, too.
    """
    noisy, unknown = model.given(needed(job.surface, "surface"))
    output = yield from answer(model.maps, job, model.condition(noisy, unknown), lambda made: noisy + made)
    assert output.images is not None
    surfaces, seeds = model.coefficients(output.images), list(output.seeds)
    images = yield from _drawn(model, surfaces, seeds)
    given = yield from _drawn(model, model.coefficients(noisy), seeds[:1])
    side = model.config.picture
    maps = {"map": output.images, "map_given": noisy.expand_as(output.images), **output.extras}
    shown = {name: _enlarged(values, side) for name, values in maps.items()}
    return replace(output, images=images, surfaces=surfaces, extras={"given": given.expand_as(images), **shown})


def _drawn(model: Spectral, coefficients: Tensor, seeds: list[int]) -> Task[Tensor]:
    rows = {"coefficients": coefficients}
    rows = yield Loop(model.draw, rows, steps=1, seeds=seeds, name="draw", keep=["picture"])
    return rows["picture"]


def _enlarged(maps: Tensor, side: int) -> Tensor:
    """Maps as pictures: 0 is grey, and each cell a square."""
    return F.interpolate(maps.clamp(-1, 1), scale_factor=max(1, side // maps.shape[-1]))
