"""Measuring a checkpoint that translates between two domains: held-out true pairs judge what it learned without any."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.core.model import LoadedModel
from models.data.catalog import load_domains
from models.data.images import DataError, to_float
from models.data.splits import SPLITS
from models.data.unpaired import UnpairedData
from models.evaluation.base import Evaluation, Run
from models.evaluation.jobs import defaults_for, pictures, run_jobs
from models.metrics.effnet import Features
from models.metrics.kid import Estimate, kid_with_error
from models.metrics.unpaired import protocol, saliency_mass, score_pairs

_SEED = 1
_CHUNK = 50
_LEAST = 10

_PROTOCOL: dict[str, str] = {
    "directions": "by the name of the domain that test images are translated to, with the card's defaults",
    "identity": "the same figures for the untranslated source images",
    "kid_gain": "the identity's KID less that of the translations: positive if translating brings images nearer to the "
    "domain",
    "kid_gain_std_error": "its standard error, smaller than those of the two as both answer the same images",
    "saliency": "of the maps net and path: mass, the share of a map on pixels where source and true partner differ (by "
    "more than .1 of [-1, 1], mean of channels), mean over images; area, the share of such pixels, which is the mass "
    "of a map that is the same everywhere",
    "seconds": "wall time of each direction on the machine that measured",
}


@dataclass(frozen=True, eq=False)
class DomainBench:
    """A checkpoint with the data that it is measured against.

    Args:
        defaults: of ``translate``, from the card.
        domains: the names of source and target.
        valid: for the card's calibration.
        test: true pairs, or none: then only distances of domains are measured.
    """

    model: LoadedModel
    defaults: Mapping[str, Any]
    domains: tuple[str, str]
    train: UnpairedData
    valid: UnpairedData
    test: UnpairedData


def prepare(model: LoadedModel, run: Run) -> DomainBench:
    """The model with its data.

    Raises:
        DataError: the data can't be used, or are too few to measure anything.
    """
    card = model.card
    source, target = card["classes"]
    shape = {"image_size": card["image"]["height"], "channels": card["image"]["channels"]}
    train, valid, test = (load_domains(run.data, split, run.root, direction=run.direction, **shape) for split in SPLITS)
    if (fewest := min(len(test.source), len(test.target))) < _LEAST:
        raise DataError(f"{test.name} holds out {fewest} images of a domain; measuring needs at least {_LEAST}")
    return DomainBench(model, defaults_for(model, "translate"), (source, target), train, valid, test)


def evaluate(
    bench: DomainBench, features: Features, progress: Callable[[str], None] = lambda message: None
) -> dict[str, Any]:
    """What goes on a card as ``metrics``: plain numbers that JSON can hold, and under ``protocol`` what they mean.

    Raises:
        RowsError: a chain of the model diverged.
    """
    source, target = bench.domains
    directions: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name, data in ((target, bench.test), (source, bench.test.reversed())):
        progress(f"to {name}: translating {len(data.source):,} test images")
        started = time.perf_counter()
        directions[name] = translation(bench, name, data, features)
        seconds[name] = round(time.perf_counter() - started, 1)
    n = len(bench.test)
    return {
        "images": n,
        "directions": directions,
        "data": {"train": bench.train.name, "valid": bench.valid.name, "test": bench.test.name},
        "pairs": bench.test.paired,
        "seed": _SEED,
        "seconds": seconds,
        "protocol": _sentences(n, bench.test.paired),
    }


def _sentences(n: int, paired: bool) -> dict[str, str]:
    """What the figures mean; without true pairs there are fewer."""
    found = protocol(n) | _PROTOCOL
    kept = found.keys() if paired else {"kid", "kid_std_error", *_PROTOCOL} - {"saliency"}
    return {name: text for name, text in found.items() if name in kept}


def translation(bench: DomainBench, name: str, data: UnpairedData, features: Features) -> dict[str, Any]:
    """The figures of translations of ``data.source`` to the domain ``name``, of which ``data.target`` are images."""
    source, target = to_float(data.source.images), to_float(data.target.images)
    defaults = {**bench.defaults, "n": 1, "label": {name: 1.0}}
    own = [{"image": image} for image in source]
    outputs = run_jobs(bench.model, "translate", defaults, own, seed=_SEED, at_once=_CHUNK)
    made = torch.cat([pictures(output) for output in outputs])
    true = features(target)
    distances = {key: kid_with_error(features(images), true) for key, images in (("made", made), ("same", source))}
    found: dict[str, dict[str, Any]] = {
        "translated": _row(made, data, target, features, distances["made"]),
        "identity": _row(source, data, target, features, distances["same"]),
    }
    gain = distances["same"] - distances["made"]
    found["translated"] |= {"kid_gain": gain.value, "kid_gain_std_error": gain.std_error}
    if data.paired:
        maps = {key: torch.cat([output.extras[key].cpu() for output in outputs]) for key in outputs[0].extras}
        found["saliency"] = {key: _mass(shades, source, target) for key, shades in maps.items()}
    return found


def _row(
    images: Tensor, data: UnpairedData, target: Tensor, features: Features, distance: Estimate
) -> dict[str, float]:
    """The figures of one answer to each source image: against its true partner where there is one."""
    if data.paired:
        return score_pairs(images, target, features)
    return {"kid": distance.value, "kid_std_error": distance.std_error}


def _mass(shades: Tensor, source: Tensor, target: Tensor) -> dict[str, float]:
    """Of a map as it is shown: -1 where nothing changed."""
    mass = saliency_mass(shades + 1, source, target)
    return {"mass": mass.mass, "area": mass.area, "images": mass.images}


def _prepare(model: LoadedModel, run: Run) -> DomainBench:
    run.features()  # if the network is missing, say so at once
    return prepare(model, run)


EVALUATION = Evaluation(
    options={},
    prepare=_prepare,
    evaluate=lambda bench, run: evaluate(bench, run.features(), run.progress),
)
"""Models that translate between two domains: distances to the other domain, and true pairs where there are any."""
