"""What can be trained: a request that can't work is refused before anything is stored, queued or created.

The API has no code of any model, and may run before any trainer has started. So what the models offer is a file beside
this one, ``trainable.json``: written from the models' own configurations (``models/training/offer.py``), held true by a
test, and shipped with them in one version. What the data sets are is read from the folder of data, which the API shares
with the trainers as it shares the folder of models (:mod:`service.contract.data_facts`). The command line asks here as
well, so both fronts use the same words. What no look from outside can tell, such as a damaged file, fails later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.contract.data_facts import DataFacts, Known, NoDataError, find_facts
from service.contract.errors import UnprocessableError
from service.contract.trainings import TrainingRequest

ITERATIONS, BATCH_SIZE = "training.iterations", "training.batch_size"

_FILE = Path(__file__).with_name("trainable.json")
_TYPES: Mapping[str, Any] = {"integer": int, "number": float, "boolean": bool, "string": str, "null": None}
_BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}


class RefusedError(Exception):
    """A training that can't work.

    Args:
        field: where the mistake is in the request, such as ``("overrides", "refinement.steps")``.
        message: what is wrong, and what there is instead.
    """

    def __init__(self, field: Sequence[str], message: str) -> None:
        super().__init__(message)
        self.field, self.message = tuple(field), message

    def problem(self) -> UnprocessableError:
        """The same for a client of the API."""
        entry = {"loc": ["body", *self.field], "msg": self.message, "type": "invalid-request"}
        return UnprocessableError("invalid-request", f"{'.'.join(self.field)}: {self.message}", errors=[entry])


class Asked(NamedTuple):
    """A setting that a request replaces."""

    field: tuple[str, ...]
    """Where it stands in the request."""
    path: str
    value: object


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sizes(_Part):
    """The sides of the images that a preset takes, in pixels: ``least`` to ``greatest`` by ``step``."""

    least: int
    greatest: int
    step: int
    larger: bool
    square: bool

    def fit(self, width: int, height: int) -> bool:
        """Whether images of this size can be learned from."""
        side = min(width, height)
        inside = self.least <= side <= self.greatest and (side - self.least) % self.step == 0
        return (inside or (self.larger and side > self.greatest)) and (width == height or not self.square)

    def words(self) -> str:
        """The sizes in words."""
        if self.least == self.greatest:
            return f"{self.least}x{self.least}"
        steps = f" by {self.step}" if self.step > 1 else ""
        return f"sides of {self.least} to {self.greatest}{steps}{', or more' if self.larger else ''}"


class Bound(_Part):
    """A bound of a setting that follows from the rest of a preset, and the sentence with which it is refused."""

    least: float | None = None
    greatest: float | None = None
    says: str

    def holds(self, value: float) -> bool:
        """Whether a value is within it."""
        return (self.least is None or value >= self.least) and (self.greatest is None or value <= self.greatest)


class Preset(_Part):
    """A preset, and the data that it learns from; ``labels`` and ``pairs`` say why data without them are refused."""

    settings: str
    kind: Literal["images", "domains"]
    labels: str | None
    pairs: str | None
    channels: list[int]
    sizes: Sizes
    bounds: dict[str, Bound]


class System(_Part):
    """The presets of a system, and the settings of each kind of them as parts of JSON Schema."""

    settings: dict[str, dict[str, dict[str, Any]]]
    presets: dict[str, Preset]


class Trainable(_Part):
    """All that can be trained."""

    systems: dict[str, System]
    data: dict[str, Known] = Field(default_factory=dict)

    @classmethod
    def shipped(cls) -> Self:
        """What the models of this version offer."""
        return cls.model_validate_json(_FILE.read_bytes())

    def check_request(self, request: TrainingRequest, root: Path) -> None:
        """Refuse a request that can't work.

        Args:
            request: what a client asks for.
            root: the folder of data sets.

        Raises:
            UnprocessableError: it can't; the error names the field and says what there is instead.
        """
        asked = [Asked(("overrides", path), path, value) for path, value in request.overrides.items()]
        fields = {"iterations": (ITERATIONS, request.iterations), "batch_size": (BATCH_SIZE, request.batch_size)}
        asked += [Asked((name,), path, value) for name, (path, value) in fields.items() if value is not None]
        try:
            self.check_settings(request.system, request.preset, asked)
            facts = find_facts(request.data, root, self.data)
            self.check_data(request.system, request.preset, asked, request.data, facts, request.direction)
        except RefusedError as error:
            raise error.problem() from None
        except NoDataError as error:
            raise RefusedError(("data",), str(error)).problem() from None

    def check_settings(self, system: str, preset: str, asked: Sequence[Asked]) -> None:
        """Refuse what the configuration of a preset does not have, or can't be.

        Raises:
            RefusedError: unknown system, preset or setting; a value of the wrong type or out of range.
        """
        chosen = self._preset(system, preset)
        known = self.systems[system].settings[chosen.settings]
        for field, path, value in asked:
            if path not in known and field[-1] != path:
                raise RefusedError(field, f"the preset {preset} of {system} has no {path}; leave {field[-1]} out")
            if path not in known:
                raise RefusedError(field, f"unknown setting {path!r}; known, for example: {', '.join(known)}")
            try:
                checked = _field(json.dumps(known[path])).validate_python(value)
            except ValidationError as error:
                raise RefusedError(field, f"{path}: {error.errors(include_url=False)[0]['msg']}") from None
            if (bound := chosen.bounds.get(path)) and not bound.holds(checked):
                raise RefusedError(field, bound.says)

    def check_data(
        self, system: str, preset: str, asked: Sequence[Asked], name: str, facts: DataFacts, direction: str
    ) -> None:
        """Refuse data that a preset can't learn from, as far as they are known.

        Raises:
            RefusedError: they are of another kind, shape or size, or lack what the preset needs.
        """
        chosen = self._preset(system, preset)
        if any("." not in path for _, path, _ in asked):
            return  # such settings say what a model is made for, so the preset's own needs may not be those any more
        if wrong := _other_kind(chosen, name, facts):
            raise RefusedError(("data",), wrong)
        if direction == "BtoA" and facts.pairs is False and not facts.domains:
            raise RefusedError(
                ("direction",), f"{name} has no pairs that BtoA could turn round; leave the direction out"
            )
        for given, needed in ((facts.labels, chosen.labels), (facts.pairs, chosen.pairs)):
            if given is False and needed is not None:
                raise RefusedError(("data",), needed.replace("{data}", name))
        if wrong := _other_shape(chosen, preset, name, facts, turned=direction == "BtoA"):
            raise RefusedError(("data",), wrong)

    def _preset(self, system: str, preset: str) -> Preset:
        if system not in self.systems:
            raise RefusedError(("system",), f"unknown system {system!r}; choose one of: {', '.join(self.systems)}")
        presets = self.systems[system].presets
        if preset not in presets:
            choices = ", ".join(presets)
            raise RefusedError(("preset",), f"unknown preset {preset!r} of {system}; choose one of: {choices}")
        return presets[preset]


def _other_kind(preset: Preset, name: str, facts: DataFacts) -> str | None:
    if preset.kind == "images" and facts.domains:
        return (
            f"{name} has two domains without pairs, but one set of images is wanted: "
            "choose a preset that translates without pairs, or give one folder of images"
        )
    if preset.kind == "domains" and facts.domains is False and facts.pairs is False:
        return f"{name} has no two domains; give aligned pairs, or a folder with the folders trainA and trainB"
    return None


def _other_shape(preset: Preset, label: str, name: str, facts: DataFacts, *, turned: bool) -> str | None:
    """Of turned pairs the images are those that were conditions, whose channels are not known."""
    one_set = preset.kind == "images"  # two domains are brought to the same channels
    if one_set and not turned and facts.channels and facts.channels not in preset.channels:
        colours = {1: "grey images (1 channel)", 3: "colour images (3 channels)"}
        wanted = " or ".join(colours[count] for count in preset.channels)
        return f"{name} has {colours[facts.channels]}, but the preset {label} takes {wanted}"
    if facts.size and not preset.sizes.fit(*facts.size):
        width, height = facts.size
        return (
            f"{name} has images of {width}x{height} pixels, but the preset {label} takes {preset.sizes.words()}: "
            "choose another preset or resize the images"
        )
    return None


@cache
def _field(schema: str) -> TypeAdapter[Any]:
    """The check that a configuration's own field with this schema makes."""
    return TypeAdapter(_type(json.loads(schema)), config=ConfigDict(allow_inf_nan=False))


def _type(schema: Mapping[str, Any]) -> Any:
    if "anyOf" in schema:
        return reduce(or_, map(_type, schema["anyOf"]))
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    bounds: dict[str, Any] = {ours: schema[theirs] for theirs, ours in _BOUNDS.items() if theirs in schema}
    return Annotated[_TYPES[schema["type"]], Field(**bounds)]
