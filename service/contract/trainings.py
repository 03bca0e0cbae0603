"""The contract of trainings: what a client asks for and what the record shows."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.contract.data_places import DataName
from service.contract.records import Delivery, Record, now
from service.contract.webhook_url import WebhookUrl

MODEL_NAME = r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$"
"""Names of models: small letters, digits and hyphens, at most 64."""


def check_model_name(name: str) -> str:
    """A name that a new model can have: the one rule of the API and of the command line.

    Raises:
        PydanticCustomError: it can't; a ValueError that says what to write instead.
    """
    if re.fullmatch(MODEL_NAME, name):
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    instead = re.sub(r"[^a-z0-9]+", "-", plain)[:64].strip("-")
    such_as = f", such as {instead}" if instead else ""
    rule = "use small letters, digits and hyphens, at most 64, with a letter or digit at either end"
    message = f"{name[:100]!r} is no name of a model: {rule}{such_as}"
    raise PydanticCustomError("model-name", "{message}", {"message": message})


ModelName = Annotated[str, Field(json_schema_extra={"pattern": MODEL_NAME}), AfterValidator(check_model_name)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Override = bool | Annotated[int, Field(ge=-(2**53), le=2**53)] | float | Annotated[str, Field(max_length=200)]


class TrainingRequest(BaseModel):
    """Fit a model on a data set of the server and put it in the catalog under `name`.

    Every training makes a new version of that name; older versions stay. The training resumes where it stopped
    if its worker dies.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    system: Word = Field("ccoopnets", description="The method to train.", examples=["ccoopnets"])
    preset: Word = Field("small", description="Size of the networks and matching settings.", examples=["small"])
    data: DataName = Field(
        description="Name of a data set: one that you have uploaded, or one of the server; see GET /v1/datasets.",
        examples=["fashion-mnist"],
    )
    direction: Literal["AtoB", "BtoA"] = Field(
        "AtoB",
        description="Of data in two parts A and B: which is the condition or source, and which is made from it.",
        examples=["AtoB"],
    )
    image_size: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Crop the images to their central squares and resize them to so many pixels a side; absent: they "
        "stay as they are.",
        examples=[28],
    )
    channels: Literal[1, 3] | None = Field(
        None, description="Convert the images to grey (1) or colour (3); absent: they stay as they are.", examples=[1]
    )
    name: ModelName = Field(
        description="Name of the new model: small letters, digits and hyphens.",
        examples=["my-fashion"],
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of all random numbers of the training.", examples=[0])
    iterations: int | None = Field(
        None, ge=1, le=100_000_000, description="Number of updates; absent: the preset's.", examples=[2000]
    )
    batch_size: int | None = Field(
        None, ge=1, le=65_536, description="Images an update; absent: the preset's.", examples=[100]
    )
    overrides: dict[Word, Override] = Field(
        default_factory=dict,
        max_length=100,
        description="Settings of the method by name, in place of the preset's.",
        examples=[{}],
    )
    webhook: WebhookUrl | None = Field(
        None, description="Address that gets the record by POST when the training has ended, as with jobs."
    )


class TrainingRecord(Record):
    """The state of one training."""

    path: ClassVar[str] = "/v1/trainings"
    prefix: ClassVar[str] = "trn"
    max_lost: ClassVar[int] = 2  # a trainer has one training at a time: nobody else's has killed it
    lost: ClassVar[str] = (
        "trainers in a row were killed and had saved nothing new, probably because the machine had no memory left; "
        "choose a smaller batch_size, image size or preset"
    )

    params: TrainingRequest = Field(description="The request.")
    model_owner: str | None = Field(
        None, description="Whose the model will be: the owner of a key, or null: everybody's.", examples=[None]
    )
    metrics: dict[str, float] = Field(default_factory=dict, description="The latest figures of the training.")
    samples: list[str] = Field(default_factory=list, description="Addresses of sample sheets, oldest first.")
    figure: str | None = Field(
        None, description="Address of the figure of its curves and newest samples; null before the first."
    )
    model: str | None = Field(
        None, description="The finished model as name@version; null before.", examples=["my-fashion@1"]
    )

    @classmethod
    def new(cls, params: TrainingRequest, context: dict[str, str]) -> TrainingRecord:
        """The record of a request that is about to be queued.

        Args:
            params: the request.
            context: what logs and traces call it.
        """
        return cls(
            id=cls.new_id(),
            created_at=now(),
            params=params,
            webhook=Delivery(url=params.webhook) if params.webhook else None,
            context=context,
        )


class Measured(BaseModel):
    """What a training measured or said at an iteration."""

    iteration: int = Field(description="After how many updates.")
    seconds: float | None = Field(None, description="Time of training until then; null where it was not noted.")
    metrics: dict[str, float] = Field(default_factory=dict, description="What was measured, by name.")
    warning: str | None = Field(None, description="What was unusual, in a sentence; null otherwise.")


class TrainingHistory(BaseModel):
    """All that a training has measured."""

    items: list[Measured] = Field(description="In the order in which it was measured.")

    @classmethod
    def of(cls, lines: bytes) -> TrainingHistory:
        """The history of a file with a JSON object a line. A line that was cut off is left out."""
        found = []
        for line in lines.splitlines():
            try:
                given = json.loads(line)
                known = {name: given.pop(name) for name in ("iteration", "seconds", "warning") if name in given}
                found.append(Measured(**known, metrics=given))
            except (ValueError, AttributeError):
                continue
        return cls(items=found)
