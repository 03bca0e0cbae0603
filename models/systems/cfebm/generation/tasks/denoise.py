"""A noisy image, cleaned."""

from __future__ import annotations

from models.core.jobs import DenoiseJob, needed
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import repeat
from models.systems.cfebm.chain import FREE, chain_numbers
from models.systems.cfebm.generation.model import EnergyModel


def denoise(model: EnergyModel, job: DenoiseJob) -> Task[Output]:
    """The last steps of the chain, started at the noisy image (section 4.1).

    Nothing holds the result to the input but the number of steps, which is therefore the strength.
    """
    seeds = row_seeds(job.seed, job.n)
    total = max(model.config.steps, job.steps)
    rows = chain_numbers(model, job.n, job.noise, job.step_size, total - job.steps, total)
    rows["y"] = repeat(model.padded(needed(job.image, "image").to(model.device)), job.n, model.device)
    energy = model.finest
    shown, judge = model.shown, energy.evaluate
    rows = yield Loop(
        energy.chain, rows, job.steps, seeds, "denoise", preview=shown, judge=judge, keep=["y"], bound=FREE
    )
    rows = yield Loop(energy.evaluate, rows, steps=1, seeds=seeds, name="score")
    return Output(images=model.shown(rows), energy=-rows["f"], seeds=seeds)
