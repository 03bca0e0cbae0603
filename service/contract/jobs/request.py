"""What the requests of all tasks share: their common fields, the card's defaults and limits, and their pictures."""

from __future__ import annotations

import math
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from service.contract.cards import ModelCard, TaskCard
from service.contract.errors import UnprocessableError, invalid
from service.contract.options import OptionName, OptionValue, cost_of, rows_of
from service.contract.webhook_url import WebhookUrl

PictureRef = Annotated[str, Field(min_length=1)]
"""A picture in a request: the id of an uploaded image or of a sample picture, or a data URI."""

PICTURE_FORMS = (
    "The id of an image that was uploaded with `POST /v1/images`, or of a sample picture of `GET /v1/images`, or a "
    "data URI (PNG, JPEG or WebP)."
)


_COPIES = 12
"""An image, about three further pictures of it, and twice its chain, which is saved in four bytes a value."""
_SURFACE_BYTES = 400_000
"""Of a result that is a surface, its OBJ file and its coefficients."""


class Role(StrEnum):
    """What a picture is to the model, which decides the shape that it is brought to."""

    IMAGE = "image"
    """An image such as the model makes: of the card's ``image`` shape."""
    CONDITION = "condition"
    """What the model makes an image from: of the card's ``condition`` shape."""
    MASK = "mask"
    """Which pixels of the request's IMAGE are hidden: one channel, white = hidden."""
    GREY = "grey"
    """The lightness of an image: of the card's ``image`` shape, with one channel."""
    SMALL = "small"
    """An image whose sides are those of the card's, divided by the option ``factor``: it must have that size."""


class GivenPicture(NamedTuple):
    """A picture that a request gives."""

    name: str
    """The field, and the place where the field is a list: ``image``, ``images.0``."""
    role: Role
    ref: str


class JobRequest(BaseModel, ABC):
    """Fields that all tasks share. A field that is absent takes the default of the model's card."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    task: ClassVar[str]
    example: ClassVar[dict[str, Any]]
    pictures: ClassVar[Mapping[str, Role]] = {}
    """Which fields are pictures, and what each is to the model."""
    surfaces: ClassVar[tuple[str, ...]] = ()
    """Which fields are surfaces: meshes, or coefficients of harmonics."""
    beyond: ClassVar[str] = (
        "after {steps} its images may be worse, and their energies are not comparable with those after {trained}"
    )
    """What is said of more steps than those of the training."""
    sequence: ClassVar[bool] = False
    """Whether all images belong together as frames, so that none can be made alone."""
    times: ClassVar[str | None] = None
    """The list field for each of whose entries `n` images are made; None: `n` images in all."""

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
    options: dict[OptionName, OptionValue] = Field(
        default_factory=dict,
        max_length=100,
        description="What only some methods can be told, by name. The model's card declares which options a task has, "
        "with type, default and range; an option that is left out has its default.",
        examples=[{}],
    )
    preview_every: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Send a picture of the unfinished images every so many steps, the start included; 0 = never.",
    )
    output_format: Literal["png", "webp", "jpeg"] = Field(
        "png",
        description="The format in which the addresses of `outputs` give the images. webp keeps every pixel; jpeg is "
        "lossy. Only png files hold the request that makes them again.",
    )
    priority: int = Field(5, ge=0, le=9, description="Jobs with a greater number leave the queue first.", examples=[5])
    max_queue_seconds: float | None = Field(
        None,
        gt=0,
        le=604_800,
        description="The job fails if it has not started after so many seconds. Absent: it waits for its turn.",
        examples=[60.0],
    )
    webhook: WebhookUrl | None = Field(
        None,
        description="Address that gets the record by POST when the job has ended, signed by the Standard Webhooks "
        "scheme, and again if it does not answer 2xx. `webhook` of the record shows how it went.",
    )

    @property
    def rows(self) -> int:
        """How many images a resolved request asks for."""
        each = 1 if self.times is None else len(getattr(self, self.times) or [None])
        return (self.n or 1) * each

    def cost(self, card: ModelCard) -> float:
        """What a resolved request costs: rows x steps x pixels of an image; the proposal counts as a step.

        With it what the options cost, as the card declares.
        """
        refinement = self.steps if self.refine and self.steps else 0
        row_steps = self.rows * (1 + refinement) + self._option_steps(card)
        return float(row_steps * card.image.width * card.image.height)

    def _option_steps(self, card: ModelCard) -> float:
        """The steps that the options add, of all rows together."""
        options, classes = card.tasks[self.task].options, self._searched_classes(card)
        return cost_of(options, self.options, images=self.rows, n=self.n or 1, classes=classes)

    def output_bytes(self, card: ModelCard) -> int:
        """What the images of a resolved request may take on the disk: rather too many bytes than too few.

        Each image, its further pictures, what is saved of its chain, and its previews and frames.
        """
        steps = (self.steps or 0) if self.refine else 0
        frames = steps + 1 if getattr(self, "animate", False) else 0
        previews = self.shown_steps(card) // self.preview_every + 1 if self.preview_every else 0
        pixels = card.image.width * card.image.height * card.image.channels
        surface = _SURFACE_BYTES if card.surface else 0
        return self.rows * (pixels * (_COPIES + frames + previews) + surface)

    def shown_steps(self, card: ModelCard) -> int:
        """How many steps of a resolved request previews may show, for each image; those of its options included."""
        steps = (self.steps or 0) if self.refine else 0
        return steps + math.ceil(self._option_steps(card) / self.rows)

    def _searched_classes(self, card: ModelCard) -> int:
        """Among how many classes that of the picture is searched, where a task does so."""
        known = getattr(self, "label", None) is not None or card.classes is None
        return 1 if known else len(card.classes or ())

    def masked(self, card: ModelCard) -> bool:
        """Whether this task of this model needs to know which pixels of the image are hidden."""
        return Role.MASK in self.pictures.values() and "inpaint" in card.tasks

    def given_pictures(self) -> Iterator[GivenPicture]:
        """The pictures that the request gives, in the order of its fields."""
        for field, role in self.pictures.items():
            value = getattr(self, field)
            if isinstance(value, str):
                yield GivenPicture(field, role, value)
            for k, ref in enumerate(value if isinstance(value, list) else ()):
                yield GivenPicture(f"{field}.{k}", role, ref)

    def given_surfaces(self) -> dict[str, str | list[float | None]]:
        """The surfaces that the request gives, by field."""
        values = {field: getattr(self, field) for field in self.surfaces}
        return {field: value for field, value in values.items() if value is not None}

    @property
    def gives_files(self) -> bool:
        """Whether it gives anything that is kept beside its record."""
        return bool(self.given_surfaces()) or any(self.given_pictures())

    def with_pictures(self, refs: Mapping[str, str]) -> Self:
        """The same request with other references to its pictures and surfaces, by the names of
        :meth:`given_pictures` and :meth:`given_surfaces`.
        """
        update: dict[str, Any] = {field: refs[field] for field in self.given_surfaces()}
        for field in self.pictures:
            value = getattr(self, field)
            if isinstance(value, str):
                update[field] = refs[field]
            elif isinstance(value, list):
                update[field] = [refs[f"{field}.{k}"] for k in range(len(value))]
        return self.model_copy(update=update)

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
        defaults = {k: v for k, v in ability.defaults.model_dump().items() if k in type(self).model_fields}
        options = ability.settings(self.options, card.ref)
        concrete = {**defaults, **given, "model": card.ref, "options": options}
        # Seeds chosen here fit into the whole numbers of JavaScript, so every client can send them back.
        concrete.setdefault("seed", secrets.randbelow(2**32))
        params = self.model_copy(update={**concrete, **self.settle(card, concrete["seed"])})
        return params, params._check(ability, card)

    @abstractmethod
    def settle(self, card: ModelCard, seed: int) -> dict[str, Any]:
        """The task's own fields in their concrete form, such as labels as weights by class name.

        Raises:
            UnprocessableError: a field does not fit the model.
        """

    def _check(self, ability: TaskCard, card: ModelCard) -> list[str]:
        limits = ability.limits
        ranges = {
            "n": (1, limits.max_n),
            "steps": (0, limits.most_steps(self.step_size)),
            "step_size": limits.step_size,
            "noise": limits.noise,
        }
        for field, (low, high) in ranges.items():
            value = getattr(self, field, None)
            if value is not None and not low <= value <= high:
                at = f" with step_size {self.step_size:g}" if field == "steps" and self.step_size is not None else ""
                raise invalid(field, f"{card.ref} takes {low} to {high}{at}, got {value}")
        if self.rows > limits.max_n:
            raise invalid("n", f"{card.ref} makes at most {limits.max_n} images a job, this asks for {self.rows}")
        classes = self._searched_classes(card)
        rows = rows_of(ability.options, images=self.rows, n=self.n or 1, classes=classes)
        if rows > limits.max_n:
            raise invalid(
                "n",
                f"without the label each of them is searched in all {classes} classes, {rows} in all, and {card.ref} "
                f"takes {limits.max_n} a job: send the label, or ask for at most {limits.max_n // classes}",
            )
        if self.refine is False and not limits.proposal:
            raise invalid("refine", f"{card.ref} has no proposals to give in {self.task}; leave refine out")
        if self.rows > 1 and not limits.chance and not self.noise:
            raise invalid("n", f"all results of {card.ref} would be the same: ask for one, or send noise above 0")
        if self.refine and self.steps is not None and self.steps > limits.trained_steps:
            what = self.beyond.format(steps=self.steps, trained=limits.trained_steps)
            return [f"{card.ref} was trained with {limits.trained_steps} refinement steps; {what}"]
        return []
