"""What can be trained: a request that can't work is refused before anything is stored, queued or created.

The API has no code of any model, and may run before any trainer has started. So what the models offer is a file beside
this one, ``trainable.json``: written from the models' own configurations (``models/training/offer.py``), held true by a
test, and shipped with them in one version. What the data sets are is read from the folder of data, which the API shares
with the trainers as it shares the folder of models (:mod:`service.contract.data_facts`). The command line asks here as
well, so both fronts use the same words. What no look from outside can tell, such as a damaged file, fails later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from service.contract.data_facts import DataFacts, Known, NoDataError, find_facts
from service.contract.errors import UnprocessableError
from service.contract.presets import Part, Preset, System, conversion, find_fault, wants
from service.contract.trainings import TrainingRequest

ITERATIONS, BATCH_SIZE = "training.iterations", "training.batch_size"

_FILE = Path(__file__).with_name("trainable.json")
_MEMORY = Path(__file__).with_name("training_memory.json")
_TYPES: Mapping[str, Any] = {"integer": int, "number": float, "boolean": bool, "string": str, "null": None}
_BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}


class RefusedError(Exception):
    """A training that can't work.

    Args:
        field: where the mistake is in the request, such as ``("overrides", "refinement.steps")``.
        message: what is wrong, and what there is instead.
        ways_out: fields of the request that would make it work, by name; several if there are several ways.
    """

    def __init__(self, field: Sequence[str], message: str, ways_out: Sequence[Mapping[str, object]] = ()) -> None:
        self.field, self.message, self.ways_out = tuple(field), message, tuple(ways_out)
        super().__init__(self.said(lambda name, value: f"{name} = {json.dumps(value)}", " and "))

    def said(self, setting: Callable[[str, object], str], joined: str) -> str:
        """The message with its ways out, each field as the front writes it."""
        ways = [joined.join(setting(name, value) for name, value in way.items()) for way in self.ways_out]
        return f"{self.message}: try {', or '.join(ways)}" if ways else self.message

    def problem(self) -> UnprocessableError:
        """The same for a client of the API."""
        entry = {"loc": ["body", *self.field], "msg": str(self), "type": "invalid-request"}
        return UnprocessableError("invalid-request", f"{'.'.join(self.field)}: {self}", errors=[entry])


class Asked(NamedTuple):
    """A setting that a request replaces."""

    field: tuple[str, ...]
    """Where it stands in the request."""
    path: str
    value: object


class Memory(Part):
    """About how many bytes a training of a preset takes: ``fixed``, and ``row`` for each image of a batch."""

    fixed: int
    row: int
    batch: int


class Trainable(Part):
    """All that can be trained."""

    systems: dict[str, System]
    data: dict[str, Known] = Field(default_factory=dict)
    memory: dict[str, dict[str, Memory]] = Field(default_factory=dict)

    @classmethod
    def shipped(cls) -> Self:
        """What the models of this version offer."""
        return cls.model_validate({**json.loads(_FILE.read_bytes()), "memory": json.loads(_MEMORY.read_bytes())})

    def check_request(self, request: TrainingRequest, root: Path, memory: int, owner: str | None = None) -> None:
        """Refuse a request that can't work.

        Args:
            request: what a client asks for.
            root: the folder of data sets.
            memory: the most bytes that a training may take.
            owner: whose uploads it may name.

        Raises:
            UnprocessableError: it can't; the error names the field and says what there is instead.
        """
        asked = [Asked(("overrides", path), path, value) for path, value in request.overrides.items()]
        fields = {"iterations": (ITERATIONS, request.iterations), "batch_size": (BATCH_SIZE, request.batch_size)}
        asked += [Asked((name,), path, value) for name, (path, value) in fields.items() if value is not None]
        try:
            self.check_settings(request.system, request.preset, asked)
            facts = find_facts(request.data, root, self.data, owner)
            facts = facts.converted(request.image_size, request.channels)
            self.check_data(request.system, request.preset, asked, request.data, facts, request.direction)
            self.check_memory(request.system, request.preset, asked, memory)
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
        if fault := find_fault(chosen, preset, name, facts, direction):
            raise RefusedError(*fault, list(self._ways_out(system, preset, facts, direction)))

    def check_memory(self, system: str, preset: str, asked: Sequence[Asked], limit: int) -> None:
        """Refuse a training that would take far too much memory, by figures of the preset as it stands.

        A trainer measures exactly, with all the settings, before the training begins.

        Raises:
            RefusedError: it would take more than ``limit`` bytes.
        """
        need = self.memory.get(system, {}).get(preset)
        if need is None:
            return
        given = {path: (field, value) for field, path, value in asked}
        field, value = given.get(BATCH_SIZE, (("preset",), need.batch))
        rows = value if isinstance(value, int) else need.batch
        total = need.fixed + need.row * rows
        if total > limit:
            raise RefusedError(
                field,
                f"with {rows} images a batch this training would take about {total / 2**30:.1f} GiB of memory, but it "
                f"may take {limit / 2**30:.1f} GiB; choose a smaller batch_size or preset, or let the operator raise "
                "COOPSERVE_TRAINING_MEMORY_BYTES",
            )

    def _ways_out(self, system: str, preset: str, facts: DataFacts, direction: str) -> Iterator[dict[str, object]]:
        """What would make the data fit: the preset with the images converted, and the first other preset that fits."""

        def fits(candidate: Preset, converted: DataFacts) -> bool:
            return find_fault(candidate, "", "", converted, direction) is None

        presets = self.systems[system].presets
        if (own := conversion(presets[preset], facts)) and fits(presets[preset], facts.converted(**own)):
            yield {name: value for name, value in own.items() if value is not None}
            if own["channels"] is None:
                return  # no colours are lost by it

        def worse(name: str) -> tuple[bool, bool, bool]:
            """Presets come last that leave the classes or pairs unused, then those that train for days."""
            unused = [bool(given) and needed is None for given, needed in wants(presets[name], facts)]
            return unused[0], unused[1], name.startswith("paper-")

        for name in sorted((name for name in presets if name != preset), key=worse):
            way = conversion(presets[name], facts)
            if way["channels"] is None and fits(presets[name], facts.converted(**way)):
                yield {"preset": name} | {field: value for field, value in way.items() if value is not None}
                return

    def _preset(self, system: str, preset: str) -> Preset:
        if system not in self.systems:
            raise RefusedError(("system",), f"unknown system {system!r}; choose one of: {', '.join(self.systems)}")
        presets = self.systems[system].presets
        if preset not in presets:
            choices = ", ".join(presets)
            raise RefusedError(("preset",), f"unknown preset {preset!r} of {system}; choose one of: {choices}")
        return presets[preset]


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
