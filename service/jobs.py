"""The contract of jobs: one class a task is request body, queue message and model argument at once.

To add a task, write a class with its own fields, a docstring, an example and :meth:`JobRequest.condition`, and enter it
in :data:`TASKS`; the route, its page in the API reference and the queue message follow from it.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from service.catalog import ModelCard, TaskCard
from service.errors import UnprocessableError, invalid
from service.records import Record, RecordPart, now

ClassName = Annotated[str, Field(min_length=1, max_length=200)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Label = ClassName | Annotated[int, Field(ge=0, le=9999)] | Annotated[dict[ClassName, Weight], Field(max_length=1000)]


class JobRequest(BaseModel, ABC):
    """Fields that all tasks share. A field that is absent takes the default of the model's card."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    task: ClassVar[str]
    example: ClassVar[dict[str, Any]]

    model: str = Field(
        min_length=1,
        max_length=100,
        description="Name of the model, or name@version; without a version, the newest.",
        examples=["fashion-ccoopnets"],
    )
    n: int | None = Field(None, ge=1, le=4096, description="Number of images.", examples=[4])
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="Same seed, same images. Absent: one is chosen, and reported in the record.",
        examples=[7],
    )
    steps: int | None = Field(
        None,
        ge=0,
        le=100_000,
        description="Refinement steps. More than the model was trained with are accepted with a warning.",
        examples=[10],
    )
    step_size: float | None = Field(
        None, ge=0, le=1e6, description="Step size of the refinement; 1 = as trained.", examples=[1.0]
    )
    noise: float | None = Field(
        None,
        ge=0,
        le=1e6,
        description="Standard deviation of the noise that each step adds; pixels run from -1 to 1.",
        examples=[0.0],
    )
    refine: bool | None = Field(
        None, description="False gives the initializer's proposal without refinement.", examples=[True]
    )
    preview_every: int = Field(
        0, ge=0, le=100_000, description="Send a picture of the unfinished images every so many steps; 0 = never."
    )
    priority: int = Field(5, ge=0, le=9, description="Jobs with a greater number leave the queue first.", examples=[5])

    def resolve(self, card: ModelCard) -> tuple[Self, list[str]]:
        """The same request with every field concrete, and warnings about what is unusual in it.

        Raises:
            UnprocessableError: the model can't do the task, or a field is outside what its card allows.
        """
        ability = card.tasks.get(self.task)
        if ability is None:
            choices = ", ".join(card.tasks) or "none"
            raise UnprocessableError("unsupported-task", f"{card.ref} can't do {self.task!r}; its tasks are: {choices}")
        given = {name: value for name, value in self if value is not None}
        concrete = {**ability.defaults.model_dump(), **given, "model": card.ref}
        # Seeds chosen here fit into the whole numbers of JavaScript, so every client can send them back.
        concrete.setdefault("seed", secrets.randbelow(2**32))
        params = self.model_copy(update={**concrete, **self.condition(card, concrete["seed"])})
        return params, params._check(ability, card)

    @abstractmethod
    def condition(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """The task's own fields in their concrete form.

        Raises:
            UnprocessableError: a field does not fit the model.
        """

    def _check(self, ability: TaskCard, card: ModelCard) -> list[str]:
        limits = ability.limits
        _within("n", self.n, 1, limits.max_n, card)
        _within("steps", self.steps, 0, limits.max_steps, card)
        _within("step_size", self.step_size, *limits.step_size, card)
        _within("noise", self.noise, *limits.noise, card)
        if self.refine and self.steps is not None and self.steps > limits.trained_steps:
            return [
                f"{card.ref} was trained with {limits.trained_steps} refinement steps; "
                f"after {self.steps} its images may be worse"
            ]
        return []


class Generate(JobRequest):
    """Make new images with a model, of one class or of a mix of classes.

    The initializer proposes each image in one pass, and the solver refines it by `steps` steps of Langevin dynamics.
    """

    task: ClassVar[str] = "generate"
    example: ClassVar[dict[str, Any]] = {"model": "fashion-ccoopnets", "label": "Sneaker", "n": 4, "seed": 7}

    label: Label | None = Field(
        None,
        description="The class: its name, its index, or a mix as weights by name, e.g. `{'Bag': 1, 'Coat': 3}` (scaled "
        "to sum to 1). Absent: the seed chooses a class. Models without classes take none.",
        examples=["Sneaker"],
    )

    def condition(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """The label as weights by class name, in the card's order; None for a model without classes."""
        if card.classes is None:
            if self.label is not None:
                raise invalid("label", f"{card.ref} has no classes; leave the label out")
            return {"label": None}
        if self.label is None:
            return {"label": {card.classes[seed % len(card.classes)]: 1.0}}
        return {"label": mix_of(self.label, card.classes)}


TASKS: dict[str, type[JobRequest]] = {"generate": Generate}
"""Every task that a client can ask for."""


def mix_of(label: str | int | dict[str, float], classes: list[str]) -> dict[str, float]:
    """A label by name, index or weights as weights by class name that sum to 1, in the order of ``classes``.

    Raises:
        UnprocessableError: a class is unknown or named twice, or no weight is positive.
    """
    if isinstance(label, int):
        if label >= len(classes):
            raise invalid("label", f"the index must be 0 to {len(classes) - 1}, got {label}")
        return {classes[label]: 1.0}
    if isinstance(label, str):
        return {_class_named(label, classes): 1.0}
    weights: dict[str, float] = {}
    for name, weight in label.items():
        known = _class_named(name, classes)
        if known in weights:
            raise invalid("label", f"the class {known!r} is named twice")
        weights[known] = weight
    # Scaled by the greatest first: a sum of very small weights would lose all its digits.
    top = max(weights.values(), default=0.0)
    if top <= 0:
        raise invalid("label", "a mix needs at least one class with a weight above 0")
    total = sum(weight / top for weight in weights.values())
    return {name: weights[name] / top / total for name in classes if weights.get(name)}


def _class_named(name: str, classes: list[str]) -> str:
    if name in classes:
        return name
    matches = [known for known in classes if known.casefold() == name.casefold()]
    if len(matches) != 1:
        shown = ", ".join(classes[:50])
        raise invalid("label", f"there is no class {name[:100]!r}; the classes are: {shown}")
    return matches[0]


def _within(field: str, value: float | None, low: float, high: float, card: ModelCard) -> None:
    if value is not None and not low <= value <= high:
        raise invalid(field, f"{card.ref} takes {low} to {high}, got {value}")


class Output(RecordPart):
    """One image of a finished job."""

    url: str = Field(description="Address of the PNG image.", examples=["/v1/jobs/job_0190/images/0"])
    width: int = Field(description="Width in pixels.")
    height: int = Field(description="Height in pixels.")
    seed: int = Field(description="Noise key of this image, derived from the job's seed and its place.")
    energy: float | None = Field(None, description="The model's energy of the image; lower is more typical.")
    extras: dict[str, Any] = Field(default_factory=dict, description="What else the method gives about the image.")


class JobRecord(Record):
    """The state of one job."""

    path: ClassVar[str] = "/v1/jobs"
    prefix: ClassVar[str] = "job"

    task: str = Field(description="What was asked for.", examples=["generate"])
    model: str = Field(description="The model as name@version.", examples=["fashion-ccoopnets@1"])
    params: dict[str, Any] = Field(description="The request with every default filled in.")
    seed: int = Field(description="The seed that was used; send it again for the same images.")
    outputs: list[Output] = Field(default_factory=list, description="The images, once it has succeeded.")

    @classmethod
    def new(cls, params: JobRequest, warnings: list[str], id: str | None = None) -> JobRecord:
        """The record of a resolved request that is about to be queued, with a fresh id if none is given."""
        assert params.seed is not None  # resolve() has chosen one
        return cls(
            id=id or cls.new_id(),
            created_at=now(),
            task=params.task,
            model=params.model,
            params=params.model_dump(mode="json"),
            seed=params.seed,
            warnings=warnings,
        )

    def request(self) -> JobRequest:
        """The resolved request, for the worker."""
        return TASKS[self.task].model_validate(self.params)
