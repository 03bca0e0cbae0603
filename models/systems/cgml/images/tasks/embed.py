"""What the encoder makes of a picture."""

from __future__ import annotations

from models.core.jobs import EmbedJob
from models.core.loop import Task
from models.core.noise import row_seeds
from models.core.output import Output
from models.systems.cgml.images.model import Cgml
from models.systems.cgml.images.tasks.answers import encoded


def embed(model: Cgml, job: EmbedJob) -> Task[Output]:
    """The bottleneck of H as ``vector``. Vectors compare within one checkpoint alone."""
    code = yield from encoded(model, model.condition(job.image), job.seed)
    vector = code["vector"].tolist()
    numbers = {"vector": vector, "length": [len(vector[0])]}
    return Output(images=None, energy=None, seeds=row_seeds(job.seed, 1), numbers=numbers)
