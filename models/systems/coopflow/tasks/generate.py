"""New images."""

from __future__ import annotations

from models.core.jobs import GenerateJob
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.systems.coopflow.chain import proposed_and_refined
from models.systems.coopflow.model import CoopFlow


def generate(model: CoopFlow, job: GenerateJob) -> Task[Output]:
    """The flow proposes, the chain refines (section 3.3 of the paper); without refinement the proposals as they are."""
    seeds = row_seeds(job.seed, job.n)
    numbers, steps = model.bounded(job.n, job.step_size, job.noise), job.steps if job.refine else 0
    start = model.propose if job.options["start"] == "flow" else model.scatter
    shown, judge = model.shown, model.evaluate
    proposal, rows = yield from proposed_and_refined(start, model.refine, numbers, steps, seeds, shown, judge)
    rows = yield Loop(model.evaluate, rows, steps=1, seeds=seeds, name="score")
    extras = {"proposal": model.cropped(proposal)} if job.options["proposal"] else {}
    return Output(images=model.shown(rows), energy=-rows["f"], seeds=seeds, extras=extras)
