"""How well an image fits what the model has learned, in numbers."""

from __future__ import annotations

from models.core.jobs import ScoreJob, needed
from models.core.loop import Task
from models.core.output import Output
from models.core.rows import repeat
from models.systems.ccoopnets.labels.model import CCoopNets
from models.systems.ccoopnets.refinement import label_weights, step_numbers
from models.systems.judging import judge


def score(model: CCoopNets, job: ScoreJob) -> Task[Output]:
    """The value of an image under its label; calibrated if the label is one class (f compares within a class only)."""
    rows = {
        "y": repeat(job.image, 1, model.device),
        "c": label_weights(job.label, model.classes, model.device)[None],
        **step_numbers(model.config.refinement, job, 1, model.device),
    }
    classes = [name for name, weight in needed(job.label, "label").items() if weight > 0]
    known = model.calibration.get("conditions", {}).get(classes[0]) if len(classes) == 1 else None
    return (yield from judge(model, rows, job, known))
