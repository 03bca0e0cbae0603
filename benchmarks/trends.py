"""Whether a trained CoopFlow follows the directions of its paper: ``python -m benchmarks.trends NAME --data SET``.

That refined images beat proposals, the flow alone and the energy alone is what ``coopserve evaluate`` measures, with
``--beside``. Here are the other directions. A step somewhat longer than the trained one makes better images, and a far
longer one worse ones (its table 5, of trained deltas; here the chain's alone changes). Searches come nearer with every
ten iterations, and completions of one picture differ (section 5.3). With ``--training FOLDER``, that of the model,
chains go less far from proposals as both learn, and proposals keep the contrast of the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from benchmarks import workload
from benchmarks.place import prepare
from benchmarks.report import Claim, show_claims, show_table, write_json
from models.checkpoints import load_model
from models.core.model import LoadedModel
from models.data.images import to_float
from models.evaluation import cooperation
from models.evaluation.base import Run
from models.evaluation.jobs import defaults_for, pictures, run_jobs
from models.metrics.effnet import EffNetFeatures, Features
from models.metrics.kid import Estimate, kid_with_error
from models.systems.coopflow.pair import Phase
from models.training.figures import curves, read_lines

_CHUNK, _SEED = 50, 1
_WINDOW = 10
"""Iterations over whose mean a search must fall."""
_END = 10
"""The first and the last of so many parts of a phase are compared."""


def by_step_size(
    model: LoadedModel, target: Tensor, features: Features, n: int, sizes: Sequence[float]
) -> dict[float, Estimate]:
    """Kernel distances of n refined images to others, by what multiplies the trained delta."""
    defaults, seen = defaults_for(model, "generate"), features(target)
    own = [{"n": min(_CHUNK, n - done)} for done in range(0, n, _CHUNK)]

    def made(size: float) -> Tensor:
        outputs = run_jobs(model, "generate", {**defaults, "step_size": size}, own, seed=_SEED, at_once=1)
        return torch.cat([pictures(output) for output in outputs])

    return {size: kid_with_error(features(made(size)), seen) for size in sizes}


def traces(model: LoadedModel, images: Tensor) -> list[list[float]]:
    """The errors of the searches for images."""
    own = [{"image": image} for image in images]
    outputs = run_jobs(model, "reconstruct", defaults_for(model, "reconstruct"), own, seed=_SEED, at_once=1)
    return [output.numbers["trace"][0] for output in outputs]


def falls(trace: Sequence[float]) -> float:
    """The share of steps at which the mean over ten iterations falls; 0 of a trace that is too short to tell."""
    means = torch.tensor(trace, dtype=torch.float64).unfold(0, min(_WINDOW, len(trace)), 1).mean(1)
    return float((means.diff() < 0).double().mean()) if len(means) > 1 else 0.0


def course(lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Of the iterations in which both learn, the means of the first and of the last tenth, by figure.

    Raises:
        click.ClickException: there are too few.
    """
    points = curves(line for line in lines if line.get("phase") == Phase.COOPERATION)
    if len(points.get("move", ())) < _END:
        raise click.ClickException(f"the training has fewer than {_END} figures of the phase in which both learn")

    def ends(name: str) -> tuple[float, float]:
        values = torch.tensor([value for _, value in points[name]], dtype=torch.float64)
        few = len(values) // _END
        return float(values[:few].mean()), float(values[-few:].mean())

    return {name: ends(name) for name in ("move", "contrast", "contrast_refined")}


@click.command(context_settings={"show_default": True})
@click.argument("name")
@click.option("--data", required=True, help="A data set, by name or as a path: the one it was trained on.")
@click.option(
    "--root", type=click.Path(path_type=Path), help="The folder of data sets. [default: the data directory's]"
)
@click.option("--images", default=500, type=click.IntRange(cooperation.LEAST), help="Generated for each step size.")
@click.option("--pictures", "count", default=8, type=click.IntRange(1), help="Test images that are searched for.")
@click.option("--sizes", default=(1.0, 4 / 3, 4.0), multiple=True, type=float, help="Step sizes, the longest last.")
@click.option("--training", type=click.Path(path_type=Path, exists=True), help="The folder of the model's training.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
@click.option("--json", "path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file.")
def main(
    name: str,
    data: str,
    root: Path | None,
    images: int,
    count: int,
    sizes: tuple[float, ...],
    training: Path | None,
    threads: int | None,
    path: Path | None,
) -> None:
    """Measure the directions on one model."""
    if len(sizes) < 3:
        raise click.UsageError("give at least three --sizes: the trained one, longer ones, and the longest")
    place = prepare(threads, "cpu")
    model = load_model(workload.find_model(name, place.settings).folder, torch.device("cpu"))
    run = Run(data, root or place.settings.datasets_dir, options={"images": images, "pictures": count})
    bench = cooperation.prepare(model, run)
    some = to_float(bench.test.images)
    distances = by_step_size(model, some[: cooperation.REFERENCE], EffNetFeatures(), images, sizes)
    searched, filled = traces(model, some[:count]), cooperation.inpainting(bench, some[:count])
    show_table(
        "KID by step size",
        ["times delta", "KID", "error"],
        [[f"{size:.2f}", f"{kid.value:.4f}", f"{kid.std_error:.4f}"] for size, kid in distances.items()],
    )
    claims = _claims(distances, searched, filled)
    moved = course(read_lines(training / "metrics.jsonl")) if training else {}
    if moved:
        rows = [[figure, f"{first:.4f}", f"{last:.4f}"] for figure, (first, last) in moved.items()]
        show_table("while both learn", ["", "first tenth", "last tenth"], rows)
        claims += [
            Claim("chains go less far at the end: last / first", moved["move"][1] / moved["move"][0], 1.0, False),
            Claim("contrast of proposals", moved["contrast"][1], 0.95),
            Claim("contrast of proposals", moved["contrast"][1], 1.05, False),
        ]
    show_claims(claims)
    if path:
        figures = {
            "model": model.card["name"],
            "kid": {str(size): [kid.value, kid.std_error] for size, kid in distances.items()},
            "traces": searched,
            "inpainting": filled,
            "course": moved,
        }
        write_json(path, "trends", place.facts, figures, claims)


def _claims(
    distances: Mapping[float, Estimate], searched: Sequence[Sequence[float]], filled: Mapping[str, float]
) -> list[Claim]:
    first, *between, last = distances.values()
    return [
        Claim("KID: the trained step's less the best of longer ones but the longest", _gain(first, between), 0.0),
        Claim("KID: the longest step's less the trained one's, in errors", _errors(last - first), 2.0),
        Claim("least share of a search's iterations that come nearer", min(map(falls, searched)), 1.0),
        Claim("kept area: first error / last", filled["first_kept_mse"] / filled["kept_mse"], 5.0),
        Claim("completions differ by", filled["std"], 1e-3),
    ]


def _gain(first: Estimate, others: Sequence[Estimate]) -> float:
    return first.value - min(kid.value for kid in others)


def _errors(difference: Estimate) -> float:
    return difference.value / max(difference.std_error, 1e-12)


if __name__ == "__main__":
    main()
