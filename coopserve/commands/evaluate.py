"""``coopserve evaluate``: measure a model, and write what was measured on its card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click

from coopserve.commands.train import DIRECTION
from coopserve.configured import settings_from
from service.catalog import Catalog
from service.errors import ServiceError

Direction = Literal["AtoB", "BtoA"]


@click.command()
@click.argument("reference")
@click.option("--data", "data_name", required=True, help="The data set that the model was trained on.")
@click.option("--direction", default="AtoB", show_default=True, type=click.Choice(["AtoB", "BtoA"]), help=DIRECTION)
@click.option("--per-class", default=100, show_default=True, help="Models with classes: images a class.")
@click.option("--parzen-samples", default=10_000, show_default=True, help="Models with classes: images for Parzen.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch. [default: torch's own choice]")
@click.option("--choose-steps", is_flag=True, help="First set the default steps to what is best on validation images.")
@click.option("--write/--no-write", default=True, show_default=True, help="Put the figures on the model's card.")
def evaluate(
    reference: str,
    data_name: str,
    direction: Direction,
    per_class: int,
    parzen_samples: int,
    threads: int | None,
    choose_steps: bool,
    write: bool,
) -> None:
    """Measure the model NAME or NAME@VERSION against held-out images, its proposals and its refined images alike.

    A model with classes is judged by a classifier that was trained on real images, one that answers images by its
    distance to the true ones.
    """
    import torch

    from models.checkpoints import CheckpointError, read_card, write_card
    from models.data.images import DataError
    from models.metrics.effnet import FeaturesError
    from models.systems.registry import SYSTEMS

    torch.set_flush_denormal(True)
    if threads:
        torch.set_num_threads(threads)
    home = settings_from()
    try:
        folder = Catalog(home.model_dirs).folder(reference)
        card = read_card(folder)
        if card.get("classes"):
            places = folder, data_name, home.datasets_dir
            bench, metrics = _with_classes(card, *places, direction, per_class, parzen_samples, choose_steps)
        else:
            bench, metrics = _with_pictures(card, folder, data_name, home.datasets_dir, direction, choose_steps)
        card["calibration"] = SYSTEMS[card["system"]].calibrate(bench.model, bench.valid)
    except ServiceError as error:
        raise click.ClickException(error.detail) from None
    except (CheckpointError, DataError, FeaturesError) as error:
        raise click.ClickException(str(error)) from None
    if write:
        write_card(folder, {**card, "metrics": metrics})
    click.echo(json.dumps(metrics, indent=2))


def _with_classes(
    card: dict[str, Any],
    folder: Path,
    data: str,
    root: Path,
    direction: Direction,
    per_class: int,
    parzen_samples: int,
    choose: bool,
) -> tuple[Any, dict[str, Any]]:
    from models import evaluation

    bench, chosen = evaluation.prepare(folder, data, root, click.echo, direction=direction), {}
    if choose:
        steps, distances = evaluation.choose_steps(bench, per_class=3 * per_class, progress=click.echo)
        bench = replace(bench, defaults=_set_steps(card, bench.defaults, steps))
        chosen = {"steps_chosen_on_validation": {"steps": steps, "kid": distances}}
    metrics = evaluation.evaluate(bench, per_class=per_class, parzen_samples=parzen_samples, progress=click.echo)
    return bench, {**metrics, **chosen}


def _with_pictures(
    card: dict[str, Any], folder: Path, data: str, root: Path, direction: Direction, choose: bool
) -> tuple[Any, dict[str, Any]]:
    from models import picture_evaluation
    from models.metrics.effnet import EffNetFeatures

    bench, features, chosen = picture_evaluation.prepare(folder, data, root, direction), EffNetFeatures(), {}
    if choose:
        report = picture_evaluation.choose_steps(bench, features, click.echo)
        bench = replace(bench, defaults=_set_steps(card, bench.defaults, report["steps"]))
        chosen = {"steps_chosen_on_validation": report}
    return bench, {**picture_evaluation.evaluate(bench, features, bench.test, click.echo), **chosen}


def _set_steps(card: dict[str, Any], defaults: Any, steps: int) -> dict[str, Any]:
    """Write the number of refinement steps to all tasks of the card; gives the defaults with it."""
    for task in card["tasks"].values():
        if task["defaults"]["steps"] > 0:  # 0: a task that judges the given image as it is
            task["defaults"]["steps"] = steps
    return {**defaults, "steps": steps}
