"""What can be trained, as plain data: presets with their settings, the data that each learns from, and the known data.

The API must refuse a training that can't work before any trainer sees it, and has neither torch nor this package. So
the answer is a file, ``service/contract/trainable.json``, which ships with it; ``make docs`` writes it, and a test
holds it true. Nothing is declared here a second time: what a preset asks of its data is found by offering it data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from operator import getitem
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from models.data.catalog import DATASETS
from models.data.images import ImageData
from models.data.kinds import Data, Kind
from models.data.unpaired import UnpairedData
from models.systems.base import Variant
from models.systems.registry import VARIANTS, systems
from models.training.configuration import TrainingError, choose, fit, setting_names
from models.training.plan import Plan

_END = 2**31
"""Far beyond any bound."""
_GRAIN = {"integer": 1, "number": 1e-6}
"""How closely bounds are looked for."""
_KEPT = ("type", "enum", "const", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def offer(variants: Mapping[str, Variant] = VARIANTS) -> dict[str, Any]:
    """All systems of the variants by name, and the known data sets."""
    return {"systems": {system: _system(names) for system, names in systems(variants).items()}, "data": known_data()}


def _system(variants: Sequence[str]) -> dict[str, Any]:
    """The settings of each variant of a system, and the presets of all of them."""
    return {
        "settings": {name: settings_of(next(iter(VARIANTS[name].presets.values()))) for name in variants},
        "presets": {preset: _preset(name, preset) for name in variants for preset in VARIANTS[name].presets},
    }


def known_data() -> dict[str, Any]:
    """Shape and kind of each data set that can be fetched."""
    return {
        name: {
            "channels": known.shape[0],
            "size": [known.shape[2], known.shape[1]],
            "labels": bool(known.classes),
            "pairs": known.pairs,
        }
        for name, known in DATASETS.items()
    }


def settings_of(config: BaseModel) -> dict[str, Any]:
    """Each setting that can be replaced, by dotted path, with the part of JSON Schema that says what it takes."""
    schema = type(config).model_json_schema()
    return {path: _leaf(schema, path) for path in setting_names(config.model_dump())}


def _leaf(schema: Mapping[str, Any], path: str) -> dict[str, Any]:
    place: Mapping[str, Any] = schema
    for name in path.split("."):
        place = place["properties"][name]
        if "$ref" in place:
            place = schema["$defs"][place["$ref"].rpartition("/")[2]]
    return _bare(place)


def _bare(leaf: Mapping[str, Any]) -> dict[str, Any]:
    if "anyOf" in leaf:
        return {"anyOf": [_bare(part) for part in leaf["anyOf"]]}
    return {name: leaf[name] for name in _KEPT if name in leaf}


def _preset(variant: str, preset: str) -> dict[str, Any]:
    config, kind = VARIANTS[variant].presets[preset], VARIANTS[variant].data
    tried = _Tried(lambda data: fit(variant, config, data), kind)
    size = tried.sizes()
    greatest = size["greatest"]
    channels = [count for count in (1, 3) if tried.refusal(size=greatest, channels=count) is None]
    some = {"size": greatest, "channels": channels[0]}
    return {
        "settings": variant,
        "kind": kind,
        "labels": tried.refusal(**some, labels=False),
        "pairs": tried.refusal(**some, pairs=False),
        "channels": channels,
        "sizes": {**size, "square": tried.refusal(**some, wider=True) is not None},
        "bounds": _bounds(variant, config, preset, settings_of(config)),
    }


def offered_plans(variants: Mapping[str, Variant] = VARIANTS) -> Iterator[tuple[str, str, Plan]]:
    """For each preset its system, its name, and a training of it on blank data."""
    for system, names in systems(variants).items():
        for name in names:
            for preset, config in variants[name].presets.items():
                yield system, preset, _plan(name, config)


def _plan(name: str, config: BaseModel) -> Plan:
    kind = VARIANTS[name].data
    tried = _Tried(lambda data: fit(name, config, data), kind)
    size = tried.sizes()["greatest"]
    channels = next(count for count in (1, 3) if tried.refusal(size=size, channels=count) is None)
    blank = _blank(channels, size, size).expand(_OFFERED, -1, -1, -1)
    images = ImageData(blank, torch.zeros(_OFFERED, dtype=torch.int64), ("0",), "blank", blank)
    data: Data = images if kind == "images" else UnpairedData(images, images, "blank")
    return Plan(name, fit(name, config, data), data, "blank", 0, torch.device("cpu"), "")


class _Tried:
    """Data that are offered to a configuration, to find out which it takes."""

    def __init__(self, fit: Callable[[Data], BaseModel], kind: Kind) -> None:
        self._fit, self._kind = fit, kind

    def refusal(
        self, *, size: int, channels: int, labels: bool = True, pairs: bool = True, wider: bool = False
    ) -> str | None:
        """The sentence with which such data are refused, None if they fit. Their name in it is ``{data}``."""
        shape = (channels, size, 2 * size if wider else size)
        label = torch.zeros(1, dtype=torch.int64) if labels else None
        images = ImageData(_blank(*shape), label, ("0",) if labels else (), "{data}", _blank(*shape) if pairs else None)
        try:
            self._fit(images if self._kind == "images" else UnpairedData(images, images, "{data}"))
        except TrainingError as error:
            return str(error)
        return None

    def sizes(self) -> dict[str, Any]:
        """The square sizes that fit, as a range with a step; ``larger`` if all those above it fit, too."""
        fitting = [size for size in range(1, _MOST + 1) if self._fits(size)]
        larger = fitting[-1] == _MOST
        start = max((size for size in range(1, _MOST + 1) if not self._fits(size)), default=0) + 1
        inner = [size for size in fitting if not larger or size <= start]
        step = inner[-1] - inner[-2] if len(inner) > 1 else 1
        assert inner == list(range(inner[0], inner[-1] + 1, step)), f"sizes that are no range: {inner}"
        return {"least": inner[0], "greatest": inner[-1], "step": step, "larger": larger}

    def _fits(self, size: int) -> bool:
        return any(self.refusal(size=size, channels=channels) is None for channels in (1, 3))


_OFFERED = 16
"""Blank images of a training."""

_MOST = 1024
"""The greatest size that is tried."""


def _blank(*shape: int) -> Tensor:
    return torch.zeros(1, dtype=torch.uint8).expand(1, *shape)


def _bounds(variant: str, config: BaseModel, preset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers that a preset bounds more than its schema does, such as by its layers and stages.

    Settings without a dot say what a model is made for and change together; they are left out.

    Returns:
        By path the least or greatest value, and the sentence with which the others are refused.
    """
    values = config.model_dump()
    found: dict[str, Any] = {}
    for path, leaf in settings.items():
        if "." not in path or leaf.get("type") not in _GRAIN or "enum" in leaf:
            continue
        now: Any = reduce(getitem, path.split("."), values)
        for side, end in zip(("least", "greatest"), _ends(leaf), strict=True):
            refusal = partial(_refusal, variant, preset, path)
            bound, says = _bound(refusal, now, end, _GRAIN[leaf["type"]])
            if says is not None:
                found[path] = {side: bound, "says": says}
    return found


def _ends(leaf: Mapping[str, Any]) -> tuple[float, float]:
    """The least and greatest value that a schema allows, or nearly so."""
    grain = _GRAIN[leaf["type"]]
    low = leaf["exclusiveMinimum"] + grain if "exclusiveMinimum" in leaf else leaf.get("minimum", -_END)
    high = leaf["exclusiveMaximum"] - grain if "exclusiveMaximum" in leaf else leaf.get("maximum", _END)
    return low, high


def _bound(refusal: Callable[[float], str | None], good: float, end: float, grain: float) -> tuple[float, str | None]:
    """The last good value on the way from a good one to ``end``, and the sentence about those beyond it, if any."""
    if (says := refusal(end)) is None:
        return end, None
    bad = end
    while abs(bad - good) > grain:
        middle = (bad + good) // 2 if grain == 1 else (bad + good) / 2
        if (found := refusal(middle)) is None:
            good = middle
        else:
            bad, says = middle, found
    return good, says


def _refusal(variant: str, preset: str, path: str, value: float) -> str | None:
    try:
        choose(variant, preset, {path: value})
    except TrainingError as error:
        return str(error)
    return None


if __name__ == "__main__":
    import json

    print(json.dumps(offer(), indent=1))
