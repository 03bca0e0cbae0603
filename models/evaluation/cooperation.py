"""Measuring a pair of a flow that proposes and an energy that refines: is the pair better than either alone?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.core.model import LoadedModel
from models.data.holes import centred_square
from models.data.images import DataError, ImageData, to_float
from models.evaluation.base import Evaluation, EvaluationError, Run
from models.evaluation.jobs import defaults_for, pictures, run_jobs
from models.evaluation.labels import splits_for
from models.metrics.effnet import Features
from models.metrics.kid import Estimate, kid_with_error

LEAST = 10
"""Images that a kernel distance with an error needs of either kind."""
REFERENCE = 5_000
"""At most so many test images are what generated ones are held against."""
SEED = 1
_CHUNK, _RESULTS = 50, 2

PROTOCOL: dict[str, str] = {
    "refined": "{images} images by generate with the card's defaults",
    "proposal": "the same seeds without refinement: what the flow makes by itself",
    "langevin": "the same chain of the same energy, as many steps, from uniform noise in place of proposals",
    "real": "as many training images in their place",
    "beside": "as many images by generate, and reconstructions, of other models with the defaults of their cards",
    "kid": "KID (EffNet-Lite0): unbiased kernel distance (degree 3) to {reference} test images, in 1,280 features of "
    "images resized to 128 pixels; lower is better, not comparable with Inception figures",
    "kid_std_error": "standard error of a distance over the images, by a jackknife of ten groups",
    "margin": "how much greater the distance is than that of refined images, with the standard error of the difference",
    "contrast": "standard deviation of all pixels over that of real images",
    "reconstruction": "{pictures} test images by reconstruct with the card's defaults. mse: mean squared difference of "
    "an element, images in [-1, 1]; psnr in dB; first_mse: before the search",
    "inpainting": "{pictures} test images whose centred square, a quarter of the area, is hidden, two results each. "
    "kept_mse: mean squared difference of the chain's end to what is shown; first_kept_mse: before the search; std: "
    "root mean variance in the hole over the completions of an image",
    "bits": "upper bound of bits a dimension by score; the flow has learned refined images, so this is no fit to "
    "the data",
    "seconds": "wall time of each part on the machine that measured",
}


@dataclass(frozen=True, eq=False)
class PairBench:
    """A checkpoint with the data that it is measured against.

    Args:
        beside: models that it is compared with, by name.
        changed: options of tasks that differ from the card's defaults.
    """

    model: LoadedModel
    train: ImageData
    valid: ImageData
    test: ImageData
    beside: Mapping[str, LoadedModel] = field(default_factory=dict)
    changed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def defaults(self, model: LoadedModel, task: str) -> dict[str, Any]:
        """The card's defaults of a task, with what is changed of its options."""
        found = defaults_for(model, task)
        return {**found, "options": {**found["options"], **self.changed.get(task, {})}}


def prepare(model: LoadedModel, run: Run) -> PairBench:
    """The model with its data.

    Raises:
        DataError: the data can't be used, or are too few to measure anything.
        EvaluationError: too few images are asked for.
    """
    if run.options["images"] < LEAST:
        raise EvaluationError(f"--images must be at least {LEAST}")
    if run.options["pictures"] < 1:
        raise EvaluationError("--pictures must be at least 1")
    if strange := next(
        (name for name, other in run.beside.items() if other.card["image"] != model.card["image"]), None
    ):
        raise EvaluationError(f"{strange} makes images of another size or of other channels, so it can't be compared")
    train, valid, test = splits_for(model, run)
    if fewest := next((data for data in (train, valid, test) if len(data) < LEAST), None):
        raise DataError(f"{fewest.name} has {len(fewest)} images in one split; measuring needs {LEAST} in each")
    return PairBench(model, train, valid, test, run.beside)


def evaluate(bench: PairBench, run: Run) -> dict[str, Any]:
    """What goes on a card as ``metrics``: plain numbers that JSON can hold, and under ``protocol`` what they mean.

    Raises:
        RowsError: a chain of the model diverged.
    """
    features, images, count = run.features(), run.options["images"], run.options["pictures"]
    some = _some(bench.test, count)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "generate": lambda: generation(bench, features, images),
        "reconstruct": lambda: {"reconstruction": _reconstructions(bench, some)},
        "inpaint": lambda: {"inpainting": inpainting(bench, some)},
        "score": lambda: {"score": {"bits": float(_scores(bench, some, "bits").mean())}},
    }
    report: dict[str, Any] = {"images": images}
    seconds: dict[str, float] = {}
    for name, measure in parts.items():
        run.progress(f"{name}: measuring")
        started = time.perf_counter()
        report |= measure()
        seconds[name] = round(time.perf_counter() - started, 1)
    reference = min(REFERENCE, len(bench.test))
    words = {"images": f"{images:,}", "pictures": f"{len(some):,}", "reference": f"{reference:,}"}
    data = {"train": bench.train.name, "valid": bench.valid.name, "test": bench.test.name}
    protocol = {name: text.format(**words) for name, text in PROTOCOL.items()}
    return {**report, "data": data, "seed": SEED, "seconds": seconds, "protocol": protocol}


def generation(bench: PairBench, features: Features, n: int) -> dict[str, Any]:
    """Kernel distances of what the pair makes, and of what either makes by itself, to test images."""
    target, real = features(_some(bench.test, REFERENCE)), _some(bench.train, n)
    made = {
        "refined": _generated(bench, n),
        "proposal": _generated(bench, n, refine=False),
        "langevin": _generated(bench, n, start="noise"),
        "real": real,
    }
    made |= {name: _generated(bench, n, model=other) for name, other in bench.beside.items()}
    distances = {name: kid_with_error(features(images), target) for name, images in made.items()}
    contrast = to_float(bench.train.images).std()
    found = {}
    for name, images in made.items():
        figures = {**_told("kid", distances[name]), "contrast": float(images.std() / contrast)}
        if name not in ("refined", "real"):
            figures |= _told("margin", distances[name] - distances["refined"])
        found[name] = figures
    return {name: found[name] for name in found if name not in bench.beside} | {
        "beside": {name: found[name] for name in bench.beside}
    }


def reconstruction(bench: PairBench, images: Tensor, model: LoadedModel | None = None) -> dict[str, float]:
    """How near the chains of the best starts come to images; of the model, or of another one."""
    own = [{"image": image} for image in images]
    outputs = _alone(bench, "reconstruct", own, model)
    traces = [output.numbers["trace"][0] for output in outputs]
    return {
        "mse": _mean([output.numbers["residual"][0] for output in outputs]),
        "psnr": _mean([output.numbers["psnr"][0] for output in outputs]),
        "first_mse": _mean([trace[0] for trace in traces]),
    }


def _reconstructions(bench: PairBench, images: Tensor) -> dict[str, Any]:
    """The same of the model and of those beside it whose chains have learned anything."""
    others = {
        name: model for name, model in bench.beside.items() if model.card["tasks"]["generate"]["defaults"]["refine"]
    }
    beside = {name: reconstruction(bench, images, model) for name, model in others.items()}
    return reconstruction(bench, images) | ({"beside": beside} if beside else {})


def inpainting(bench: PairBench, images: Tensor) -> dict[str, float]:
    """How near the chains come to what is shown of images, and how much completions differ."""
    mask = centred_square(images.shape[-1]).float()[None]
    own = [{"n": _RESULTS, "image": torch.where(mask > 0, torch.zeros(()), image), "mask": mask} for image in images]
    outputs = _alone(bench, "inpaint", own)
    completed = torch.stack([pictures(output) for output in outputs])
    traces = [trace for output in outputs for trace in output.numbers["trace"]]
    return {
        "kept_mse": _mean([trace[-1] for trace in traces]),
        "first_kept_mse": _mean([trace[0] for trace in traces]),
        "std": float(completed.var(1)[..., mask[0] > 0].mean().sqrt()),
    }


def _generated(
    bench: PairBench, n: int, start: str | None = None, model: LoadedModel | None = None, **fields: Any
) -> Tensor:
    model = model or bench.model
    defaults = bench.defaults(model, "generate")
    options = defaults["options"] | ({} if start is None else {"start": start})
    own = [{"n": len(part), "options": options, **fields} for part in torch.arange(n).split(_CHUNK)]
    outputs = run_jobs(model, "generate", defaults, own, seed=SEED, at_once=1)
    return torch.cat([pictures(output) for output in outputs])


def _alone(bench: PairBench, task: str, own: list[dict[str, Any]], model: LoadedModel | None = None) -> list[Any]:
    """Jobs one after another: searches end when they are done, so they can't be driven as one batch."""
    model = model or bench.model
    return run_jobs(model, task, bench.defaults(model, task), own, seed=SEED, at_once=1)


def _scores(bench: PairBench, images: Tensor, number: str) -> Tensor:
    outputs = _alone(bench, "score", [{"image": image} for image in images])
    return torch.tensor([output.numbers[number][0] for output in outputs])


def _told(name: str, distance: Estimate) -> dict[str, float]:
    return {name: distance.value, f"{name}_std_error": distance.std_error}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _some(data: ImageData, n: int) -> Tensor:
    """At most n images in [-1, 1], chosen at random: data may be sorted by class."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))
    return to_float(data.images[order[:n]])


EVALUATION = Evaluation(options={"images": 1000, "pictures": 8}, prepare=prepare, evaluate=evaluate, compares=True)
"""Pairs of a flow and an energy: kernel distances of the pair and of each by itself, and how they find images again."""
