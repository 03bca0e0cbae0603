"""What a client reads of a job: its record, and the outputs in it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from service.contract.jobs.inputs import Inputs
from service.contract.jobs.request import JobRequest
from service.contract.jobs.tasks import TASKS
from service.contract.records import Delivery, Record, RecordPart, now


class Output(RecordPart):
    """One result of a finished job."""

    url: str | None = Field(
        description="Address of the PNG image; null for a task that gives numbers alone, and for an image whose "
        "chain diverged while others of the job did not: a warning names it.",
        examples=["/v1/jobs/job_0190/images/0"],
    )
    width: int | None = Field(description="Width in pixels; null without an image.")
    height: int | None = Field(description="Height in pixels; null without an image.")
    seed: int = Field(
        description="Noise key of this image. Sent back as the `seed` of the same request with `n` 1, it gives this "
        "image alone again; all frames of `interpolate` share one."
    )
    energy: float | None = Field(
        None,
        description="Minus the value f that the model gives the image, whose scale and zero are the model's own. Lower "
        "is more typical among images of one model and condition, in at most the trained number of steps; a chain that "
        "goes on lowers it further while the image gets worse. Null: the method has no energy, or the chain diverged.",
    )
    extras: dict[str, Any] = Field(
        default_factory=dict, description="What else the method gives: numbers by name, addresses of further pictures."
    )


class JobRecord(Record):
    """The state of one job."""

    path: ClassVar[str] = "/v1/jobs"
    prefix: ClassVar[str] = "job"

    task: str = Field(description="What was asked for.", examples=["generate"])
    model: str = Field(description="The model as name@version.", examples=["fashion-ccoopnets@1"])
    params: dict[str, Any] = Field(
        description="The request with every default filled in; a picture that came with it is named by its hash."
    )
    seed: int = Field(description="The seed that was used; send it again for the same images.")
    outputs: list[Output] = Field(default_factory=list, description="The results, once it has succeeded.")
    stored_bytes: int | None = Field(
        None, description="What its images take on the server, in bytes, until it expires; null before its end."
    )

    @classmethod
    def new(
        cls,
        params: JobRequest,
        warnings: list[str],
        id: str | None = None,
        context: dict[str, str] | None = None,
        inputs: Inputs | None = None,
    ) -> JobRecord:
        """The record of a resolved request that is about to be queued, with a fresh id if none is given.

        Args:
            params: the resolved request.
            warnings: what is unusual in it.
            id: the record's id.
            context: what logs and traces call the request.
            inputs: where its pictures are.
        """
        assert params.seed is not None  # resolve() has chosen one
        return cls(
            id=id or cls.new_id(),
            created_at=now(),
            task=params.task,
            model=params.model,
            params=params.model_dump(mode="json"),
            seed=params.seed,
            warnings=warnings,
            webhook=Delivery(url=params.webhook) if params.webhook else None,
            context=context or {},
            inputs=inputs.model_dump() if inputs else {},
        )

    def given(self) -> Inputs:
        """Where the pictures of the request are kept."""
        return Inputs.model_validate(self.inputs)

    def request(self) -> JobRequest:
        """The resolved request, for the worker."""
        return TASKS[self.task].model_validate(self.params)
