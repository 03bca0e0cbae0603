"""New images of a class, or of a mix of classes."""

from __future__ import annotations

from models.core.jobs import GenerateJob
from models.core.loop import Loop, Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.core.rows import pictures
from models.systems.ccoopnets.labels.model import CCoopNets
from models.systems.ccoopnets.refinement import label_weights, refine, step_numbers


def generate(model: CCoopNets, job: GenerateJob) -> Task[Output]:
    """Propose, then refine (sections 4.1.2 and 4.1.3 of the paper)."""
    seeds = row_seeds(job.seed, job.n)
    c = label_weights(job.label, model.classes, model.device)
    rows = {
        "c": c.expand(job.n, -1).clone(),
        **step_numbers(model.config.refinement, job, job.n, model.device),
    }
    rows = yield Loop(model.propose, rows, steps=1, seeds=seeds, name="propose", keep=[])  # fast thinking
    rows = yield from refine(model, rows, job, seeds)  # slow thinking
    return Output(images=pictures(rows), energy=-rows["f"], seeds=seeds)
