"""New images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

from models.core.jobs import GenerateJob
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.rows import check_range
from models.systems.base import Output
from models.systems.cfebm.chain import FREE, chain_numbers, split_steps

if TYPE_CHECKING:
    from models.systems.cfebm.generation.model import EnergyModel


def generate(model: EnergyModel, job: GenerateJob) -> Task[Output]:
    """A short run from uniform noise, through one energy a size (Algorithm 2 and appendix A.8 of the paper).

    The noise of the steps is annealed over the whole chain, not anew in each size.
    """
    seeds = row_seeds(job.seed, job.n)
    rows = chain_numbers(model, job.n, job.noise, job.step_size, 0, job.steps)
    rows = yield Loop(model.begin, rows, steps=1, seeds=seeds, name="start")
    done = 0
    for energy, steps in zip(model.energies, split_steps(job.steps, len(model.energies)), strict=True):
        if energy is not model.energies[0]:
            rows["y"] = F.interpolate(rows["y"], size=(energy.size, energy.size))
        rows["k0"] = rows["k0"] * 0 + done
        rows = yield Loop(energy.chain, rows, steps, seeds, name=f"{energy.size} px", preview=model.shown)
        check_range(rows, FREE)
        rows["y"] = rows["y"].clamp(-1, 1)
        done += steps
    rows = yield Loop(model.finest.evaluate, rows, steps=1, seeds=seeds, name="score")
    return Output(images=model.shown(rows), energy=-rows["f"], seeds=seeds)
