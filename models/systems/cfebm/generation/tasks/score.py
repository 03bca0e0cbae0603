"""How well an image fits what the model has learned, in numbers."""

from __future__ import annotations

from models.core.jobs import ScoreJob
from models.core.loop import Task
from models.core.output import Output
from models.core.rows import repeat
from models.systems.cfebm.chain import FREE, chain_numbers
from models.systems.cfebm.generation.model import EnergyModel
from models.systems.judging import judge


def score(model: EnergyModel, job: ScoreJob) -> Task[Output]:
    """f of the image, where it lies among held-out images, and the norm of its gradient (section 4.2)."""
    total = max(model.config.steps, job.steps)
    rows = chain_numbers(model, 1, job.noise, job.step_size, total - job.steps, total)
    rows["y"] = repeat(model.padded(job.image.to(model.device)), 1, model.device)
    return (yield from judge(model.finest, rows, job, model.calibration.get("pooled"), FREE))
