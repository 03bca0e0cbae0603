"""Model cards: what a model is, what it can do by task, and how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from service.contract.errors import invalid
from service.contract.options import CardPart, Option, OptionName, OptionValue
from service.contract.trainings import MODEL_NAME

_LONGEST = 200
"""Steps of the longest chains, however short their steps."""
_LATENT = {
    "description": "Steps of the search for the latent vector from which the initializer draws the picture.",
    "cost": {"start": 1, "per": "n", "each_class": True},
}


class ImageShape(CardPart):
    """The images that a model makes or takes, in pixels."""

    height: int = Field(ge=1, le=4096, description="Height in pixels.")
    width: int = Field(ge=1, le=4096, description="Width in pixels.")
    channels: int = Field(ge=1, le=4, description="1 = grey, 3 = colour.")


class SurfaceShape(CardPart):
    """The surfaces that a model takes and makes, by the spherical harmonics of their radial functions."""

    degrees: int = Field(ge=2, le=128, description="L: harmonics of degrees below it, L x L coefficients.")


class TaskDefaults(CardPart):
    """What a request gets for the fields that it leaves out."""

    n: int = Field(1, ge=1, description="Number of images.")
    steps: int = Field(ge=0, description="Refinement steps.")
    step_size: float = Field(ge=0, description="Step size, as a multiple of the trained one.")
    noise: float = Field(
        ge=0, description="Standard deviation of the noise that each step adds; pixels run from -1 to 1."
    )
    refine: bool = Field(True, description="False = the initializer's proposal alone.")


class TaskLimits(CardPart):
    """What a request may ask for. Ranges include both ends."""

    max_n: int = Field(ge=1, description="Most images a job.")
    max_steps: int = Field(
        ge=0,
        description="Most refinement steps at the trained step size or a greater one; with a smaller `step_size` as "
        "many more in proportion, up to 200.",
    )
    trained_steps: int = Field(ge=0, description="Steps that the model was trained with; more give a warning.")
    step_size: tuple[float, float] = Field(description="Least and greatest step size.")
    noise: tuple[float, float] = Field(description="Least and greatest noise scale.")
    proposal: bool = Field(True, description="Whether the model can propose without refinement (`refine` false).")
    partial_mask: bool = Field(False, description="Whether a mask must hide some pixels and leave others.")
    chance: bool = Field(True, description="Whether images of one request differ even without `noise`.")

    def most_steps(self, step_size: float | None) -> int:
        """The most refinement steps of a step size: what chains bear is their way, not the number of steps."""
        if step_size is None or step_size >= 1:
            return self.max_steps
        in_proportion = self.max_steps / step_size if step_size > 0 else math.inf
        return max(self.max_steps, int(min(in_proportion, _LONGEST)))


class TaskCard(CardPart):
    """How a model does one task."""

    defaults: TaskDefaults = Field(description="Values of fields that a request leaves out.")
    limits: TaskLimits = Field(description="Bounds of what a request may ask for.")
    options: dict[OptionName, Option] = Field(
        default_factory=dict, description="What requests of this task may set in `options`, by name."
    )

    lightness: Literal["luma", "cielab"] = Field(
        "luma",
        description="What `colorize` keeps of a picture: the weighted sum of its channels by which libraries make it "
        "grey, or L* of CIE L*a*b*.",
    )

    @model_validator(mode="before")
    @classmethod
    def _older_form(cls, given: Any) -> Any:
        """Cards that were written before there were options had one of them among the defaults and limits."""
        if not isinstance(given, dict) or (given.get("defaults") or {}).get("latent_steps") is None:
            return given
        defaults, limits = dict(given["defaults"]), dict(given["limits"])
        steps, most = defaults.pop("latent_steps"), limits.pop("max_latent_steps", None)
        declared = {"type": "integer", "default": steps, "range": (0, most if most is not None else steps), **_LATENT}
        return {**given, "defaults": defaults, "limits": limits, "options": {"latent_steps": declared}}

    @model_validator(mode="after")
    def _known_factors(self) -> Self:
        for name, option in self.options.items():
            for factor in option.cost.factors if option.cost else ():
                if factor not in self.options or self.options[factor].type == "string":
                    raise ValueError(f"the cost of {name} has the factor {factor}, which is no option with a number")
        return self

    def settings(self, given: Mapping[str, OptionValue], ref: str) -> dict[str, Any]:
        """All options of the task: those of a request, and the defaults of the others.

        Args:
            given: by name.
            ref: what messages call the model.

        Raises:
            UnprocessableError: there is no such option, or a value is not one that it can have.
        """
        if strange := [name for name in given if name not in self.options]:
            known = ", ".join(self.options) or "none for this task"
            raise invalid(f"options.{strange[0]}", f"{ref} has no such option; its options are: {known}")
        values = {}
        for name, option in self.options.items():
            try:
                values[name] = option.fit(given.get(name, option.default))
            except ValueError as error:
                raise invalid(f"options.{name}", f"{ref} {error}") from None
        return values


class FileEntry(CardPart):
    """One file of a model."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the file.")
    bytes: int = Field(ge=0, description="Size of the file.")


class ModelCard(CardPart):
    """What a model is, what it can do, and how it was made."""

    name: str = Field(pattern=MODEL_NAME, description="Name of the model.")
    version: int = Field(ge=1, lt=10**9, description="Version; a training makes a new one.")
    owner: str | None = Field(
        None, max_length=64, description="Whose model it is: nobody else sees it; null: everybody's."
    )
    system: str = Field(description="The method that the model belongs to.")
    variant: str | None = Field(
        None, description="Which kind of model of the method it is, as system/kind; null on cards of earlier versions."
    )
    title: str = Field(description="The model in a few words.")
    description: str = Field(description="What the model makes and how.")
    license: str = Field(description="Licence of the weights.")
    notice: str = Field("", description="Credits that go with the weights.")
    image: ImageShape = Field(description="Shape of the images.")
    condition: ImageShape | None = Field(
        None, description="Shape of the pictures that images are made from; null for models that take none."
    )
    surface: SurfaceShape | None = Field(
        None, description="Size of the surfaces that the model takes and makes; null for models of pictures."
    )
    classes: list[str] | None = Field(None, min_length=1, description="Names of the classes, in order of index.")
    tasks: dict[str, TaskCard] = Field(description="What the model can do, by task.")
    config: dict[str, Any] = Field(default_factory=dict, description="Settings of the networks.")
    files: dict[str, FileEntry] = Field(default_factory=dict, description="Files of the model, by name.")
    training: dict[str, Any] = Field(default_factory=dict, description="How the model was trained.")
    calibration: dict[str, Any] = Field(
        default_factory=dict, description="Values of real images, against which `score` sets an image's value."
    )
    metrics: dict[str, Any] = Field(default_factory=dict, description="What was measured on the model.")
    known_weaknesses: list[str] = Field(default_factory=list, description="What the model does badly.")

    @property
    def ref(self) -> str:
        """``name@version``, which names this model for good."""
        return f"{self.name}@{self.version}"

    @model_validator(mode="after")
    def _plain_names(self) -> Self:
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have the same name")
        if bad := [name for name in self.files if Path(name).name != name or name in {".", ".."}]:
            raise ValueError(f"files must lie beside the card, not at {bad[0]!r}")
        return self
