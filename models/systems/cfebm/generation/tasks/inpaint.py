"""The hidden part of an image, completed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.core.jobs import InpaintJob
from models.core.loop import Loop, Rows, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import repeat
from models.systems.cfebm.chain import Segment, annealed, chain_numbers, resized, split_steps, walk
from models.systems.cfebm.generation.model import EnergyModel

_FAINT = 0.4
"""Where one energy does all, the hole starts from noise cut to this range, as in the authors' code."""


def inpaint(model: EnergyModel, job: InpaintJob) -> Task[Output]:
    """n completions (section 4.1): the chain moves hidden pixels alone, the others stay bit for bit.

    Through several sizes image and mask are averaged to each of them, and a coarse pixel is held only if all that it
    covers is shown: so the hole is filled from coarse to fine, as images are made.
    """
    seeds = row_seeds(job.seed, job.n)
    image = repeat(model.padded(job.image.to(model.device)), job.n, model.device)
    mask = repeat(model.padded(job.mask.to(model.device), 0.0), job.n, model.device)
    rows = chain_numbers(model, job.n, job.noise, job.step_size, 0, job.steps)
    rows = yield Loop(model.begin, rows, steps=1, seeds=seeds, name="start", keep=["k0", "y"])
    if len(model.energies) == 1:
        rows["y"] = rows["y"].clamp(-_FAINT, _FAINT)

    def enter(rows: Rows, segment: Segment) -> Rows:
        known, hidden = _at(image, mask, segment.size)
        filled = resized(rows, segment)["y"]
        return {**rows, "y": torch.where(hidden > 0, filled, known), "mask": hidden}

    parts = [(energy.chain, energy.size) for energy in model.energies]
    segments = annealed(parts, split_steps(job.steps, len(parts)))
    rows = yield from walk(rows, segments, seeds, enter=enter, preview=model.shown, judge=model.finest.evaluate)
    rows = yield Loop(model.finest.evaluate, rows, steps=1, seeds=seeds, name="score")
    return Output(images=model.shown(rows), energy=-rows["f"], seeds=seeds)


def _at(image: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Image and mask at a coarser size: averaged, and hidden where any of the pixels is."""
    factor = image.shape[-1] // size
    if factor == 1:
        return image, mask
    return F.avg_pool2d(image, factor), F.max_pool2d(mask, factor)
