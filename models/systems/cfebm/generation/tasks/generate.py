"""New images."""

from __future__ import annotations

from models.core.jobs import GenerateJob
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.systems.cfebm.chain import annealed, chain_numbers, split_steps, walk
from models.systems.cfebm.generation.model import EnergyModel


def generate(model: EnergyModel, job: GenerateJob) -> Task[Output]:
    """A short run from uniform noise, through one energy a size (Algorithm 2 and appendix A.8 of the paper).

    The noise of the steps is annealed over the whole chain, not anew in each size.
    """
    seeds = row_seeds(job.seed, job.n)
    rows = chain_numbers(model, job.n, job.noise, job.step_size, 0, job.steps)
    rows = yield Loop(model.begin, rows, steps=1, seeds=seeds, name="start", keep=["k0", "y"])
    parts = [(energy.chain, energy.size) for energy in model.energies]
    segments = annealed(parts, split_steps(job.steps, len(parts)))
    rows = yield from walk(rows, segments, seeds, preview=model.shown, judge=model.finest.evaluate)
    rows = yield Loop(model.finest.evaluate, rows, steps=1, seeds=seeds, name="score")
    return Output(images=model.shown(rows), energy=-rows["f"], seeds=seeds)
