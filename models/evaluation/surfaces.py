"""Measuring a model that cleans surfaces: against the clean ones, beside a linear filter and other models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from models.core.loop import run_together
from models.core.model import LoadedModel
from models.core.noise import mix
from models.data.catalog import load
from models.data.images import DataError, ImageData, to_float
from models.evaluation.base import Evaluation, Run
from models.evaluation.jobs import defaults_for, job_of
from surfaces.harmonics import Floats, orders, power
from surfaces.maps import MEAN_RADIUS, scales

RESULTS = 4
_NOISE = 0.1
_SURFACES = 240
_SEED, _AT_ONCE = 5, 16
_GALLERY = 1000

PROTOCOL: Mapping[str, str] = {
    "noise": f"coefficients under Gaussian noise of {_NOISE} in units of a map (0.6 deviations of their degree)",
    "hole": "the same, and the middle square of half the map's side unknown",
    "radial_rmse": "root mean square over all directions of the difference of the radii, where the mean radius is 1",
    "map_rmse": "the same of the cells of the map, where all degrees have one deviation, 1/6",
    "retrieval_map": f"mean average precision of the class among {_GALLERY} clean surfaces, nearest by the root of the "
    "power of each degree",
    "first, mean, best": f"of the first result, the average of {RESULTS}, and the best of {RESULTS} of each surface",
    "given": "the noisy surface, 0 for what is unknown",
    "wiener": "the best filter that multiplies each degree by a constant, measured on the training surfaces",
}

Sets: TypeAlias = Mapping[str, tuple[Floats, Floats]]
"""By condition: noisy maps and what is unknown of them, each ``[n, L, L]``."""


@dataclass(frozen=True, eq=False)
class SurfaceBench:
    """A model with the data that it is measured against."""

    model: LoadedModel
    train: ImageData
    valid: ImageData
    test: ImageData


def prepare(model: LoadedModel, run: Run) -> SurfaceBench:
    """The model with its data.

    Raises:
        DataError: they can't be read, or are no maps.
    """
    splits = [load(run.data, split, run.root) for split in ("train", "valid", "test")]
    side = model.card["surface"]["degrees"]
    for data in splits:
        if data.shape != (1, side, side):
            raise DataError(f"{data.name} holds no spectral maps of {side}x{side}")
    return SurfaceBench(model, *splits)


def evaluate(bench: SurfaceBench, run: Run) -> dict[str, Any]:
    """What goes on a card as ``metrics``.

    Raises:
        RowsError: a chain diverged.
    """
    scale = scales(bench.model.card["config"]["deviations"])
    test = bench.test.subset(slice(0, _SURFACES))
    truth, gallery = _maps(test), bench.valid.subset(slice(0, _GALLERY))
    ruler = _Ruler(scale, truth, test.labels, _maps(gallery), gallery.labels)
    gains = wiener_gains(_maps(bench.train))
    found: dict[str, Any] = {"surfaces": len(truth), "results": RESULTS}
    for name, (noisy, unknown) in corrupted(truth).items():
        run.progress(f"{name}: cleaning {len(truth)} surfaces")
        rows = {"given": ruler.figures(noisy), "wiener": ruler.figures(noisy * gains)}
        for title, model in {"cleaned": bench.model, **run.beside}.items():
            rows[title] = ruler.several(cleaned(model, scale, noisy, unknown))
        found[name] = rows
    data = {"train": bench.train.name, "valid": bench.valid.name, "test": bench.test.name}
    return {**found, "data": data, "protocol": dict(PROTOCOL)}


def corrupted(truth: Floats) -> Sets:
    """The maps under noise, and with a hole in their middle, the same each time."""
    noisy = truth + _NOISE * np.random.default_rng(_SEED).standard_normal(truth.shape)
    side = truth.shape[-1]
    hole = np.zeros_like(truth)
    hole[:, side // 4 : side // 4 + side // 2, side // 4 : side // 4 + side // 2] = 1
    return {"noise": (noisy, np.zeros_like(truth)), "hole": (np.where(hole > 0, 0.0, noisy), hole)}


def wiener_gains(train: Floats) -> Floats:
    """s / (s + noise^2) for the mean square s of each degree, as a map ``[L, L]``."""
    side = train.shape[-1]
    degree, _ = orders(side)
    squares = (train.reshape(len(train), -1) ** 2).mean(0)
    mean = np.bincount(degree, squares) / np.bincount(degree)
    return (mean / (mean + _NOISE**2))[degree].reshape(side, side)


def cleaned(model: LoadedModel, scale: Floats, noisy: Floats, unknown: Floats) -> Floats:
    """Maps by the model's own task, ``[n, results, L, L]``; a model with one answer gives one."""
    n = min(RESULTS, model.card["tasks"]["denoise"]["limits"]["max_n"])
    defaults, parts = {**defaults_for(model, "denoise"), "n": n}, []
    surfaces = torch.from_numpy(np.where(unknown > 0, np.nan, noisy).reshape(len(noisy), -1) * scale).float()
    surfaces[:, 0] = MEAN_RADIUS
    for places in torch.arange(len(surfaces)).split(_AT_ONCE):
        jobs = [job_of("denoise", defaults, surface=surfaces[k], seed=mix(_SEED, k) >> 1) for k in places.tolist()]
        outputs = run_together([model.start("denoise", job) for job in jobs])
        parts += [output.surfaces for output in outputs if output.surfaces is not None]
    found = torch.stack(parts).double().cpu().numpy()
    maps = np.divide(found, scale, out=np.zeros_like(found), where=scale > 0)
    return maps.reshape(*found.shape[:2], *noisy.shape[1:])


class _Ruler:
    """Measures maps against the true ones."""

    def __init__(
        self, scale: Floats, truth: Floats, labels: Tensor | None, gallery: Floats, kinds: Tensor | None
    ) -> None:
        self._scale, self._truth = scale, truth
        self._labels, self._kinds = labels, kinds
        self._gallery = self._powers(gallery)

    def figures(self, maps: Floats) -> dict[str, float]:
        """Of one map a surface, ``[n, L, L]``."""
        error = maps - self._truth
        found = {
            "radial_rmse": float(self._radial(error).mean()),
            "map_rmse": float(np.sqrt((error**2).mean((1, 2))).mean()),
        }
        if self._labels is not None and self._kinds is not None:
            found["retrieval_map"] = self._retrieved(maps)
        return found

    def several(self, maps: Floats) -> dict[str, float]:
        """Of several maps a surface, ``[n, results, L, L]``."""
        first = self.figures(maps[:, 0])
        if maps.shape[1] == 1:
            return first
        errors = self._radial(maps - self._truth[:, None])
        mean = self.figures(maps.mean(1))
        return {**first, "mean_radial_rmse": mean["radial_rmse"], "best_radial_rmse": float(errors.min(1).mean())}

    def _radial(self, maps: Floats) -> Floats:
        """The root mean square over the sphere: by Parseval that of the coefficients over 4 pi."""
        found: Floats = np.sqrt(((maps.reshape(*maps.shape[:-2], -1) * self._scale) ** 2).sum(-1) / (4 * np.pi))
        return found

    def _powers(self, maps: Floats) -> Floats:
        return np.sqrt(power(maps.reshape(len(maps), -1) * self._scale))

    def _retrieved(self, maps: Floats) -> float:
        assert self._labels is not None
        assert self._kinds is not None
        mine = self._powers(maps)
        distances = torch.cdist(torch.from_numpy(mine), torch.from_numpy(self._gallery))
        same = (self._kinds[distances.argsort(1)] == self._labels[:, None]).double()
        ranks = torch.arange(1, same.shape[1] + 1)
        precision = (same.cumsum(1) / ranks * same).sum(1) / same.sum(1).clamp(min=1)
        return float(precision.mean())


def _maps(data: ImageData) -> Floats:
    maps: Floats = to_float(data.images)[:, 0].double().numpy()
    return maps


EVALUATION = Evaluation(options={}, prepare=prepare, evaluate=evaluate, compares=True)
"""Models that clean surfaces."""
