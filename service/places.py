"""Where pictures are kept and how clients reach them: one blob key and one address for each kind of picture."""

from __future__ import annotations

from typing import NamedTuple

from service.jobs import JobRecord
from service.trainings import TrainingRecord


class Place(NamedTuple):
    """A picture's blob key and its address in the API."""

    key: str
    url: str


def job_image(id: str, k: int) -> Place:
    """The k-th output of a job."""
    return Place(f"jobs/{id}/{k}.png", f"{JobRecord.path}/{id}/images/{k}")


def job_preview(id: str, step: int) -> Place:
    """The unfinished images of a job after a step."""
    return Place(f"jobs/{id}/previews/{step}.png", f"{JobRecord.path}/{id}/previews/{step}")


def training_sample(id: str, iteration: int) -> Place:
    """A sheet of samples of a training after an iteration."""
    return Place(f"trainings/{id}/samples/{iteration}.png", f"{TrainingRecord.path}/{id}/samples/{iteration}")
