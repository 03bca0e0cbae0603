"""From the name of a system and a preset to a checked configuration that is fitted to the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from models.data.kinds import Data, check_kind
from models.systems.registry import VARIANTS, systems


class TrainingError(Exception):
    """A training that can't start or go on, with the reason."""


def find_variant(system: str, preset: str) -> str:
    """The name of the variant of a system that has a preset.

    Raises:
        TrainingError: there is no such system, or it has no such preset.
    """
    known = systems()
    if system not in known:
        raise TrainingError(f"unknown system {system!r}; choose one of: {', '.join(known)}")
    presets = {name: variant for variant in known[system] for name in VARIANTS[variant].presets}
    if preset not in presets:
        raise TrainingError(f"unknown preset {preset!r} of {system}; choose one of: {', '.join(presets)}")
    return presets[preset]


def configure(system: str, preset: str, data: Data, overrides: Mapping[str, Any]) -> BaseModel:
    """A preset of a system with some of its values replaced, fitted to data of the right kind.

    Raises:
        TrainingError: as :func:`find_variant`, :func:`choose` and :func:`fit` do.
    """
    variant = find_variant(system, preset)
    return fit(variant, choose(variant, preset, overrides), data)


def choose(variant: str, preset: str, overrides: Mapping[str, Any]) -> BaseModel:
    """A preset with some of its values replaced.

    Args:
        variant: the one that has the preset.
        preset: its name.
        overrides: dotted path -> value, such as ``{"training.iterations": 3000, "refinement.steps": 15}``.

    Raises:
        TrainingError: unknown path, or a value out of range.
    """
    config = VARIANTS[variant].presets[preset]
    document = config.model_dump()
    for path, value in overrides.items():
        *parents, leaf = path.split(".")
        place: Any = document
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict) or leaf not in place or isinstance(place[leaf], dict | tuple):
            raise TrainingError(f"unknown setting {path!r}; known, for example: {', '.join(setting_names(document))}")
        place[leaf] = value
    return _checked(lambda: type(config).model_validate(document))


def fit(variant: str, config: BaseModel, data: Data) -> BaseModel:
    """A configuration with the sizes that the data ask for.

    Raises:
        TrainingError: the data are of another kind than the variant learns from, or do not fit it.
    """
    entry = VARIANTS[variant]

    def fitted() -> BaseModel:
        check_kind(entry.data, data)
        return entry.fit_to(config, data)

    return _checked(fitted)


def _checked(make: Callable[[], BaseModel]) -> BaseModel:
    """A configuration, with what is wrong about it said in one sentence."""
    try:
        return make()
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise TrainingError(where + first["msg"].removeprefix("Value error, ")) from error
    except ValueError as error:
        raise TrainingError(str(error)) from error


def setting_names(document: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The dotted paths of the settings of a configuration that :func:`choose` can replace."""
    found = []
    for key, value in document.items():
        if isinstance(value, dict):
            found += setting_names(value, f"{prefix}{key}.")
        elif not isinstance(value, tuple):
            found.append(f"{prefix}{key}")
    return found
