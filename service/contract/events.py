"""What events of jobs and trainings carry."""

from __future__ import annotations

from pydantic import BaseModel, Field, RootModel

from service.contract.records import Progress, Status


class StatusEvent(BaseModel):
    """A job or training has taken a status, or was asked to stop."""

    status: Status = Field(description="The status.")
    attempt: int = Field(description="How often a worker has started it.")
    cancel_requested: bool = Field(False, description="True if it was asked to stop.")


class ProgressEvent(Progress):
    """How far a job or training has come."""


class PreviewEvent(BaseModel):
    """Unfinished images of a job."""

    step: int = Field(description="After so many steps; 0: what the refinement starts from, such as the proposals.")
    rows: list[int] = Field(description="Which of the job's images are shown, by their places from 0.")
    url: str = Field(description="Address of the PNG that shows them side by side.")
    energies: list[float | None] = Field(
        default_factory=list, description="The energy of each of them; null where the method has none."
    )


class MetricsEvent(RootModel[dict[str, float | None]]):
    """The latest figures of a training, by name."""


class SampleEvent(BaseModel):
    """A sheet of samples of a training."""

    iteration: int = Field(description="After so many updates.")
    url: str = Field(description="Address of the sheet.")


class WarningEvent(BaseModel):
    """What was unusual in a training."""

    message: str = Field(description="In a sentence.")


EVENTS: dict[str, type[BaseModel]] = {
    "status": StatusEvent,
    "progress": ProgressEvent,
    "preview": PreviewEvent,
    "metrics": MetricsEvent,
    "sample": SampleEvent,
    "warning": WarningEvent,
}
"""Every kind of event, by its name."""
