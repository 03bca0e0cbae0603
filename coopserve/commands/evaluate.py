"""``coopserve evaluate``: measure a model, and write what was measured on its card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click

from coopserve.commands.train import DIRECTION
from coopserve.configured import settings_from
from service.contract.catalog import Catalog
from service.contract.errors import ServiceError

Direction = Literal["AtoB", "BtoA"]


@click.command()
@click.argument("reference")
@click.option("--data", "data_name", required=True, help="The data set that the model was trained on.")
@click.option("--direction", default="AtoB", show_default=True, type=click.Choice(["AtoB", "BtoA"]), help=DIRECTION)
@click.option("--per-class", default=100, show_default=True, help="Models with classes: images a class.")
@click.option("--parzen-samples", default=10_000, show_default=True, help="Models with classes: images for Parzen.")
@click.option(
    "--images", default=1000, show_default=True, type=click.IntRange(10), help="Models from noise alone: how many."
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch. [default: torch's own choice]")
@click.option("--choose-steps", is_flag=True, help="First set the default steps to what is best on validation images.")
@click.option(
    "--likelihood", is_flag=True, help="Measure bounds on the log-likelihood instead. Hours, for large models."
)
@click.option(
    "--temperatures", default=1000, show_default=True, type=click.IntRange(1), help="Likelihood: of an annealing."
)
@click.option("--leapfrog", default=10, show_default=True, type=click.IntRange(1), help="Likelihood: gradients a move.")
@click.option("--chains", default=100, show_default=True, type=click.IntRange(2), help="Likelihood: in each direction.")
@click.option("--tau", default=1.0, show_default=True, help="Likelihood: temperature of the density exp(f / tau).")
@click.option("--write/--no-write", default=True, show_default=True, help="Put the figures on the model's card.")
def evaluate(reference: str, **options: Any) -> None:
    """Measure the model NAME or NAME@VERSION against held-out images, its proposals and its refined images alike.

    A model with classes is judged by a classifier that was trained on real images, one that answers images by its
    distance to the true ones, one that makes images from noise alone or translates without pairs by the distance of
    what it makes to held-out images. With --likelihood a model with a density over images is judged by annealed
    importance sampling instead, and the figures are put beside those that its card has.
    """
    import torch

    from models.checkpoints import CheckpointError, read_card, write_card
    from models.core.loop import RowsError
    from models.data.images import DataError
    from models.evaluation.likelihood import LikelihoodError
    from models.metrics.effnet import FeaturesError

    torch.set_flush_denormal(True)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    home = settings_from()
    try:
        folder = Catalog(home.model_dirs).folder(reference)
        card = read_card(folder)
        kept = card.get("metrics", {})
        if options["likelihood"]:
            metrics = {"likelihood": _likelihood(card, folder, home.datasets_dir, options)}
        else:
            metrics = _images(card, folder, home.datasets_dir, options)
            kept = {name: kept[name] for name in kept if name == "likelihood"}
    except ServiceError as error:
        raise click.ClickException(error.detail) from None
    except (CheckpointError, DataError, FeaturesError, LikelihoodError, RowsError) as error:
        raise click.ClickException(str(error)) from None
    if options["write"]:
        write_card(folder, {**card, "metrics": {**kept, **metrics}})
    click.echo(json.dumps(metrics, indent=2))


def _images(card: dict[str, Any], folder: Path, root: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The figures of the model's images; the card is given what follows from them for its tasks."""
    from models.systems.registry import VARIANTS, variant_of

    data, direction, choose = options["data_name"], options["direction"], options["choose_steps"]
    if choose and not all(task["limits"].get("proposal", True) for task in card["tasks"].values()):
        raise click.UsageError(f"--choose-steps is for models that refine proposals; {card['name']} makes none")
    generates, labelled = "generate" in card["tasks"], bool(card.get("classes"))
    if generates and labelled:
        counts = options["per_class"], options["parzen_samples"]
        bench, metrics = _with_classes(card, folder, data, root, direction, *counts, choose)
    elif generates:
        bench, metrics = _from_noise(folder, data, root, direction, options["images"])
    elif labelled:
        bench, metrics = _between_domains(folder, data, root, direction)
    else:
        bench, metrics = _with_pictures(card, folder, data, root, direction, choose)
    card["calibration"] = VARIANTS[variant_of(card)].calibrate(bench.model.kernels, bench.valid)
    return metrics


def _likelihood(card: dict[str, Any], folder: Path, root: Path, options: dict[str, Any]) -> dict[str, Any]:
    import torch

    from models.checkpoints import load_model
    from models.data.catalog import load
    from models.evaluation.bounds import evaluate_likelihood
    from models.evaluation.likelihood import LikelihoodError, Settings
    from models.systems.registry import VARIANTS, variant_of

    density = VARIANTS[variant_of(card)].density
    if density is None:
        raise LikelihoodError(
            f"{card['name']} has no density over images by themselves, so its likelihood can't be measured; "
            "leave out --likelihood, or give a model of a system that learns one"
        )
    size, channels = card["image"]["height"], card["image"]["channels"]
    test = load(options["data_name"], "test", root, image_size=size, channels=channels, direction=options["direction"])
    model = load_model(folder, torch.device("cpu")).kernels
    settings = Settings(options["temperatures"], options["leapfrog"], options["chains"], options["tau"])
    return evaluate_likelihood(density(model), test.images, settings, click.echo)


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
    from models.evaluation import labels as evaluation

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
    from models.evaluation import pictures as picture_evaluation
    from models.metrics.effnet import EffNetFeatures

    bench, features, chosen = picture_evaluation.prepare(folder, data, root, direction), EffNetFeatures(), {}
    if choose:
        report = picture_evaluation.choose_steps(bench, features, click.echo)
        bench = replace(bench, defaults=_set_steps(card, bench.defaults, report["steps"]))
        chosen = {"steps_chosen_on_validation": report}
    return bench, {**picture_evaluation.evaluate(bench, features, bench.test, click.echo), **chosen}


def _from_noise(folder: Path, data: str, root: Path, direction: Direction, images: int) -> tuple[Any, dict[str, Any]]:
    from models.evaluation import generation as energy_evaluation
    from models.metrics.effnet import EffNetFeatures

    features = EffNetFeatures()
    bench = energy_evaluation.prepare(folder, data, root, click.echo, direction)
    return bench, energy_evaluation.evaluate(bench, features, images=images, progress=click.echo)


def _between_domains(folder: Path, data: str, root: Path, direction: Direction) -> tuple[Any, dict[str, Any]]:
    from models.evaluation import domains as domain_evaluation
    from models.metrics.effnet import EffNetFeatures

    features, bench = EffNetFeatures(), domain_evaluation.prepare(folder, data, root, direction)
    return bench, domain_evaluation.evaluate(bench, features, click.echo)


def _set_steps(card: dict[str, Any], defaults: Any, steps: int) -> dict[str, Any]:
    """Write the number of refinement steps to all tasks of the card; gives the defaults with it."""
    for task in card["tasks"].values():
        if task["defaults"]["steps"] > 0:  # 0: a task that judges the given image as it is
            task["defaults"]["steps"] = steps
    return {**defaults, "steps": steps}
