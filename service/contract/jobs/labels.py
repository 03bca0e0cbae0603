"""Labels as clients write them, and as models take them: weights by class name that sum to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, JsonValue

from service.contract.cards import ModelCard
from service.contract.errors import invalid

ClassName = Annotated[str, Field(min_length=1, max_length=200)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Label = ClassName | Annotated[int, Field(ge=0, le=9999)] | Annotated[dict[ClassName, Weight], Field(max_length=1000)]
"""A class by name or index, or a mix of classes as weights by name."""

LABEL_FORMS = "its name, its index, or a mix as weights by name, e.g. `{'Bag': 1, 'Coat': 3}` (scaled to sum to 1)"

CHOSEN: dict[str, JsonValue] = {"x-chosen": True}
"""In the schema of a field that is needed wherever the model has classes, so that a form offers no other way."""


def classes_of(card: ModelCard, field: str) -> list[str]:
    """The names of a model's classes, for a field that needs them.

    Raises:
        UnprocessableError: the model has no classes.
    """
    if card.classes is None:
        raise invalid(field, f"{card.ref} has no classes; leave {field} out")
    return card.classes


def mix_of(label: str | int | dict[str, float], classes: list[str], field: str = "label") -> dict[str, float]:
    """A label by name, index or weights as weights by class name that sum to 1, in the order of ``classes``.

    Raises:
        UnprocessableError: a class is unknown or named twice, or no weight is positive; the error names ``field``.
    """
    if isinstance(label, int):
        if label >= len(classes):
            raise invalid(field, f"the index must be 0 to {len(classes) - 1}, got {label}")
        return {classes[label]: 1.0}
    if isinstance(label, str):
        return {_class_named(label, classes, field): 1.0}
    weights: dict[str, float] = {}
    for name, weight in label.items():
        known = _class_named(name, classes, field)
        if known in weights:
            raise invalid(field, f"the class {known!r} is named twice")
        weights[known] = weight
    # Scaled by the greatest first: a sum of very small weights would lose all its digits.
    top = max(weights.values(), default=0.0)
    if top <= 0:
        raise invalid(field, "a mix needs at least one class with a weight above 0")
    total = sum(weight / top for weight in weights.values())
    return {name: weights[name] / top / total for name in classes if weights.get(name)}


def known_mix(label: str | int | dict[str, float] | None, classes: list[str]) -> dict[str, float] | None:
    """The same for a label that may be absent."""
    return None if label is None else mix_of(label, classes)


def mixes_of(
    labels: Sequence[str | int | dict[str, float]], classes: list[str], field: str = "labels"
) -> list[dict[str, float]]:
    """Several labels, each as :func:`mix_of` gives it."""
    return [mix_of(label, classes, f"{field}.{k}") for k, label in enumerate(labels)]


def _class_named(name: str, classes: list[str], field: str) -> str:
    if name in classes:
        return name
    matches = [known for known in classes if known.casefold() == name.casefold()]
    if len(matches) != 1:
        shown = ", ".join(classes[:50])
        raise invalid(field, f"there is no class {name[:100]!r}; the classes are: {shown}")
    return matches[0]
