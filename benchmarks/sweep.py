"""Variants of a preset, trained alike and measured on validation images: ``python -m benchmarks.sweep``.

    python -m benchmarks.sweep --data fluent --preset small-emoji --iterations 1500 \\
        --vary training.l1_weight=3,10 --vary refinement.eta=0.5,1

trains every combination in a folder of its own below ``--work``. Run again, it goes on where it was stopped; what has
been measured is not measured again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.report import machine, show_machine, show_table, write_json
from coopserve.configured import settings_from
from models.checkpoints import load_model
from models.data.catalog import load
from models.evaluation import pictures as picture_evaluation
from models.evaluation.base import Run
from models.metrics.effnet import EffNetFeatures, Features
from models.systems.registry import VARIANTS
from models.training.configuration import configure, find_variant
from models.training.plan import Plan
from models.training.training import Training

_COLUMNS = ("psnr", "ssim", "kid", "diversity")


@dataclass(frozen=True)
class Sweep:
    """What all variants share."""

    system: str
    preset: str
    data: str
    datasets: Path
    work: Path
    seed: int
    features: Features

    def measure(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """Train one variant, or go on with it, and measure it on the validation images."""
        data = load(self.data, "train", self.datasets)
        config = configure(self.system, self.preset, data, overrides)
        identity = json.dumps([self.system, self.data, self.seed, config.model_dump(mode="json")])
        name = hashlib.sha256(identity.encode()).hexdigest()[:10]
        folder = self.work / name
        known = folder / "figures.json"
        if known.exists():
            figures: dict[str, Any] = json.loads(known.read_text())
            return figures
        command = "python -m benchmarks.sweep"
        variant = find_variant(self.system, self.preset)
        plan = Plan(variant, config, data, f"sweep-{name}", self.seed, torch.device("cpu"), command)
        training = Training(plan, folder)
        training.run()
        model = load_model(training.publish(self.work / "models"), torch.device("cpu"))
        bench = VARIANTS[variant].evaluation.prepare(model, Run(self.data, self.datasets))
        row = picture_evaluation.evaluate(bench, self.features, bench.valid)
        figures = {
            "variant": overrides,
            "seconds": round(training.progress.seconds, 1),
            "rollbacks": training.progress.rollbacks,
            **{kind: {column: row[kind][column] for column in _COLUMNS} for kind in ("proposal", "refined")},
        }
        known.write_text(json.dumps(figures, indent=2))
        return figures


def variants(vary: Sequence[str], iterations: int) -> Iterator[dict[str, Any]]:
    """Every combination of ``PATH=VALUE,VALUE`` options, each with the number of iterations.

    Raises:
        click.BadParameter: an option is not of this form.
    """
    axes = []
    for option in vary:
        path, equals, values = option.partition("=")
        try:
            axes.append([(path, json.loads(value)) for value in values.split(",")])
        except ValueError:
            equals = ""
        if not equals:
            raise click.BadParameter(f"write PATH=NUMBER,NUMBER, not {option!r}", param_hint="--vary")
    for combination in itertools.product(*axes):
        yield {"training.iterations": iterations, **dict(combination)}


def _row(figures: dict[str, Any]) -> list[str]:
    name = " ".join(f"{path}={value}" for path, value in figures["variant"].items())
    return [name, *(f"{figures[kind][column]:.4f}" for column in _COLUMNS for kind in ("proposal", "refined"))]


@click.command()
@click.option("--system", default="ccoopnets", show_default=True)
@click.option("--preset", required=True, help="What is varied.")
@click.option("--data", required=True, help="A fetched data set, or a folder.")
@click.option("--vary", multiple=True, metavar="PATH=VALUE,VALUE", help="A setting of the preset and its values.")
@click.option("--iterations", default=1500, show_default=True, help="Length of each training.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("var/sweeps"), show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here as well.")
def main(
    system: str,
    preset: str,
    data: str,
    vary: tuple[str, ...],
    iterations: int,
    seed: int,
    threads: int | None,
    work: Path,
    json_file: Path | None,
) -> None:
    """Train variants of a preset and compare their proposals and refined pictures."""
    torch.set_flush_denormal(True)
    if threads:
        torch.set_num_threads(threads)
    facts = machine(torch.device("cpu"))
    show_machine(facts)
    sweep = Sweep(system, preset, data, settings_from().datasets_dir, work, seed, EffNetFeatures())
    rows = []
    for overrides in variants(vary, iterations):
        rows.append(sweep.measure(overrides))
        click.echo("  ".join(_row(rows[-1])))
    head = ["variant", *(f"{column}, {kind}" for column in _COLUMNS for kind in ("proposal", "refined"))]
    show_table(f"{preset} on validation images of {data}", head, [_row(figures) for figures in rows])
    if json_file:
        write_json(json_file, "sweep", facts, {"variants": rows}, [])


if __name__ == "__main__":
    main()
