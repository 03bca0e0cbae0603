"""What jobs and trainings have in common: an id, a status that moves by fixed rules, times and progress."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field
from uuid6 import uuid7

from service.contract.failures import FAILURES


class Status(StrEnum):
    """Where a job or training stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """True if nothing more will happen."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED, Status.FAILED}),
    # Back to queued: the worker fell silent and its lease expired.
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.QUEUED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""The status machine: which status may follow which. The store's scripts read this table too."""


class RecordPart(BaseModel):
    """A part of a record; unknown members are ignored, so old readers understand new records."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)


class Progress(RecordPart):
    """How far the running stage has come."""

    stage: str = Field(description="The loop that runs now, e.g. `propose` or `refine`.", examples=["refine"])
    step: int = Field(ge=0, description="Steps done in this stage.", examples=[4])
    steps: int = Field(ge=0, description="Steps of this stage.", examples=[10])


class Failure(RecordPart):
    """Why a job or training failed."""

    kind: str = Field(
        description="A stable short name of the reason. "
        + ". ".join(f"`{kind}`: {meaning}" for kind, meaning in FAILURES.items())
        + ".",
        examples=["diverged"],
    )
    detail: str = Field(description="What happened and what to do.", examples=["the chain diverged; lower step_size"])


class Delivery(RecordPart):
    """The webhook that announces a record's end."""

    url: str = Field(description="Where the record is sent when it has reached its last status.")
    status: Literal["pending", "delivered", "failed"] = Field(
        "pending", description="pending until the receiver has taken it (delivered) or it was given up (failed)."
    )
    attempts: int = Field(0, description="How often it was sent.")
    last_error: str | None = Field(None, description="Why the latest attempt failed; null if none did.")


class Links(RecordPart):
    """Addresses that belong to a record, relative to the server."""

    self: str = Field(description="The record itself.")
    cancel: str = Field(description="POST here to cancel.")
    events: str = Field(description="Server-sent events: status, progress and pictures.")


class Record(BaseModel):
    """The state of one job or training. The record is the truth; events only announce its changes."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, frozen=True)

    path: ClassVar[str]
    """Where records of this type live in the API, e.g. ``/v1/jobs``."""
    prefix: ClassVar[str]
    """How ids of this type begin, e.g. ``job``."""

    max_lost: ClassVar[int] = 10
    """So many attempts may be lost in a row that had saved nothing new: others may have killed the worker, too."""
    lost: ClassVar[str] = "workers in a row stopped without an answer and had saved nothing; try a smaller request"
    """What is said after their number when one more is lost."""

    id: str = Field(description="Identifier; later records have greater ones.")
    status: Status = Field(Status.QUEUED, description="queued, then running, then succeeded, failed or cancelled.")
    attempt: int = Field(0, description="How often a worker has started it.")
    created_at: datetime = Field(description="When it was accepted (UTC).")
    started_at: datetime | None = Field(None, description="When the latest attempt started (UTC).")
    finished_at: datetime | None = Field(None, description="When it reached its last status (UTC).")
    expires_at: datetime | None = Field(
        None, description="When it is deleted, with all that belongs to it (UTC); null before its end."
    )
    cancel_requested: bool = Field(False, description="True if it was asked to stop and will do so between two steps.")
    queue_position: int | None = Field(None, description="How many are ahead of it in the queue; null once started.")
    wait_seconds: float | None = Field(
        None,
        ge=0,
        description="About how long until it starts, by the pace at which the queue has moved; null once started, and "
        "where nothing is known yet.",
    )
    progress: Progress | None = Field(None, description="How far it has come; null before the start.")
    warnings: list[str] = Field(default_factory=list, description="What was unusual about it, in sentences.")
    error: Failure | None = Field(None, description="Why it failed; null otherwise.")
    webhook: Delivery | None = Field(None, description="The webhook and how its delivery went; null without one.")
    owner: str | None = Field(None, exclude=True, description="Whose it is; not shown to clients.")
    saved_attempt: int | None = Field(
        None, exclude=True, description="The attempt that last saved its work; not shown to clients."
    )
    inputs: dict[str, Any] = Field(
        default_factory=dict, exclude=True, description="Where the pictures of its request are; not shown to clients."
    )
    context: dict[str, str] = Field(
        default_factory=dict, exclude=True, description="What logs and traces call its request; not shown to clients."
    )

    @computed_field(description="Addresses that belong to this record.")  # type: ignore[prop-decorator]
    @property
    def links(self) -> Links:
        """Addresses of the record, its cancel action and its events."""
        own = f"{self.path}/{self.id}"
        return Links(self=own, cancel=f"{own}/cancel", events=f"{own}/events")

    @classmethod
    def new_id(cls) -> str:
        """A fresh identifier; identifiers sort by time."""
        return f"{cls.prefix}_{uuid7().hex}"


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)
