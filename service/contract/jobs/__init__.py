"""The contract of jobs: one class a task is request body, queue message and model argument at once.

``tasks.py`` has the table of all tasks, ``request.py`` what their classes share, ``record.py`` what a client reads of a
job.
"""

from service.contract.jobs.denoise import Denoise
from service.contract.jobs.fitted import shape_of
from service.contract.jobs.inputs import Inputs
from service.contract.jobs.labels import mix_of
from service.contract.jobs.latents import Reconstruct, Restyle
from service.contract.jobs.numbers import Score
from service.contract.jobs.recipe import recipe_text
from service.contract.jobs.record import JobRecord, Output
from service.contract.jobs.request import GivenPicture, JobRequest, Role
from service.contract.jobs.tasks import (
    TASKS,
    Colorize,
    Generate,
    Inpaint,
    Interpolate,
    Translate,
    Upscale,
)

__all__ = [
    "TASKS",
    "Colorize",
    "Denoise",
    "Generate",
    "GivenPicture",
    "Inpaint",
    "Inputs",
    "Interpolate",
    "JobRecord",
    "JobRequest",
    "Output",
    "Reconstruct",
    "Restyle",
    "Role",
    "Score",
    "Translate",
    "Upscale",
    "mix_of",
    "recipe_text",
    "shape_of",
]
