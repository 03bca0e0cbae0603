"""Options: what only some methods can be told. A card declares them for each task, and a request sets them by name.

A declaration says all that the service needs to know: which values are valid, what is used if a request is silent, and
what the option costs. So a new knob of a method touches that method's own folder, and nothing here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias, final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

OPTION_NAME = r"^[a-z][a-z0-9_]{0,63}$"
"""Names of options: small letters, digits and underscores."""

OptionName = Annotated[str, Field(pattern=OPTION_NAME)]


def _plain(value: Any) -> Any:
    """One short message, in place of one for each type that the value might have had."""
    if not isinstance(value, bool | int | float | str):
        raise PydanticCustomError("option_type", "Input should be a number, a boolean or a string")
    if isinstance(value, int | float) and not -(2**53) <= value <= 2**53:
        raise PydanticCustomError("option_range", "Input should be a number from -2^53 to 2^53")
    return value


OptionValue: TypeAlias = Annotated[bool | int | float | Annotated[str, Field(max_length=200)], BeforeValidator(_plain)]
"""A value as a client sends it, before it is checked against the card's declaration."""


class CardPart(BaseModel):
    """A part of a card; unknown members are errors, so a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


@final
class OptionCost(CardPart):
    """What an option adds to the cost of a job, in steps: ``weight`` x (``start`` + its value) x the factors.

    A step is one of one row. Temperatures of annealed sampling, each of which takes a trajectory of leapfrogs, would
    say ``{"factors": ["leapfrogs"]}``, and the option ``leapfrogs`` itself nothing.
    """

    weight: float = Field(1.0, ge=0, description="Steps for one unit of the value.")
    start: int = Field(0, ge=0, description="Units that are spent whatever the value, such as a first evaluation.")
    factors: list[OptionName] = Field(
        default_factory=list, description="Options of the same task by whose values it is multiplied."
    )
    per: Literal["image", "n"] = Field(
        "image", description="Spent for each image, or once for each of `n` where these are drawn with several labels."
    )
    each_class: bool = Field(
        False, description="Spent for each class of the model where the request leaves the picture's `label` out."
    )


class _Declared(CardPart, ABC):
    """What all types of option declare."""

    description: str = Field(min_length=1, description="What it does, in a sentence.")
    cost: OptionCost | None = Field(None, description="What it adds to the cost of a job; null: nothing.")

    @abstractmethod
    def fit(self, value: object) -> Any:
        """A value in the option's type.

        Raises:
            ValueError: it is none that the option can have; the message says which ones there are.
        """

    @model_validator(mode="after")
    def _valid_default(self) -> Self:
        self.fit(self.default)  # type: ignore[attr-defined]
        return self


@final
class IntegerOption(_Declared):
    """A whole number."""

    type: Literal["integer"] = Field(description="The type of its value.")
    default: int = Field(description="The value if a request does not say.")
    range: tuple[int, int] = Field(description="Least and greatest value.")

    def fit(self, value: object) -> int:
        low, high = self.range
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"takes a whole number from {low} to {high}, got {_shown(value)}")
        if not low <= value <= high:
            raise ValueError(f"takes {low} to {high}, got {value}")
        return value


@final
class NumberOption(_Declared):
    """A number."""

    type: Literal["number"] = Field(description="The type of its value.")
    default: float = Field(description="The value if a request does not say.")
    range: tuple[float, float] = Field(description="Least and greatest value.")

    def fit(self, value: object) -> float:
        low, high = self.range
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"takes a number from {low} to {high}, got {_shown(value)}")
        if not low <= value <= high:
            raise ValueError(f"takes {low} to {high}, got {value}")
        return float(value)


@final
class BooleanOption(_Declared):
    """A switch."""

    type: Literal["boolean"] = Field(description="The type of its value.")
    default: bool = Field(description="The value if a request does not say.")

    def fit(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"takes true or false, got {_shown(value)}")
        return value


@final
class ChoiceOption(_Declared):
    """One of several words."""

    type: Literal["string"] = Field(description="The type of its value.")
    default: str = Field(description="The value if a request does not say.")
    choices: list[str] = Field(min_length=1, description="The values that it can have.")
    cost: None = Field(None, description="Choices cost nothing.")

    def fit(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError(f"takes one of {', '.join(self.choices)}, got {_shown(value)}")
        return value


Option: TypeAlias = Annotated[IntegerOption | NumberOption | BooleanOption | ChoiceOption, Field(discriminator="type")]
"""The declaration of an option; its ``type`` says which members it has."""


def cost_of(declared: Mapping[str, Option], values: Mapping[str, Any], *, images: int, n: int, classes: int) -> float:
    """The steps that options add to a job.

    Args:
        declared: the options of the task.
        values: the value of each.
        images: how many images the job makes.
        n: the request's own number, for each of several labels.
        classes: among how many classes that of the picture is searched; 1 where it is known.
    """
    total = 0.0
    for name, option in declared.items():
        if (cost := option.cost) is None:
            continue
        steps = cost.weight * (cost.start + values[name])
        for factor in cost.factors:
            steps *= values[factor]
        total += steps * (images if cost.per == "image" else n) * (classes if cost.each_class else 1)
    return total


def rows_of(declared: Mapping[str, Option], *, images: int, n: int, classes: int) -> int:
    """The most rows that a job advances together: one an image, or what a search takes that tries each class.

    Arguments are those of :func:`cost_of`.
    """
    costs = [option.cost for option in declared.values() if option.cost is not None]
    searched = [(images if cost.per == "image" else n) * classes for cost in costs if cost.each_class]
    return max([images, *searched])


def _shown(value: object) -> str:
    """A value of a request, cut to a length that a message can hold."""
    return repr(value)[:100]
