"""``coopserve evaluate``: measure a model, and write what was measured on its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from coopserve.commands.train import DIRECTION, place_of
from coopserve.configured import data_dir, settings_from
from service.contract.catalog import Catalog
from service.contract.errors import ServiceError

if TYPE_CHECKING:
    from models.core.model import LoadedModel
    from models.evaluation.base import Run

NUMBERS = ("per_class", "parzen_samples", "images")
"""Options that some kinds of model take, see ``Evaluation.options``."""


@click.command()
@click.argument("reference")
@click.option("--data", "data_name", required=True, help="The data set that the model was trained on.")
@click.option("--direction", default="AtoB", show_default=True, type=click.Choice(["AtoB", "BtoA"]), help=DIRECTION)
@click.option("--per-class", type=click.IntRange(1), help="Models with classes: images a class. [default: 100]")
@click.option(
    "--parzen-samples", type=click.IntRange(1), help="Models with classes: images for Parzen. [default: 10000]"
)
@click.option("--images", type=click.IntRange(10), help="Models from noise alone: how many. [default: 1000]")
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
@click.option("--beside", multiple=True, help="A model to compare it with; several times for several.")
@data_dir
@click.option("--write/--no-write", default=True, show_default=True, help="Put the figures on the model's card.")
def evaluate(reference: str, **options: Any) -> None:
    """Measure the model NAME or NAME@VERSION against held-out images, its proposals and its refined images alike.

    A model with classes is judged by a classifier that was trained on real images, one that answers images by its
    distance to the true ones, one that makes images from noise alone or translates without pairs by the distance of
    what it makes to held-out images. With --likelihood a model with a density over images is judged by annealed
    importance sampling instead, and the figures are put beside those that its card has.
    """
    import torch

    from models.checkpoints import CheckpointError, load_model, write_card
    from models.core.loop import RowsError
    from models.data.images import DataError
    from models.evaluation.base import EvaluationError, Run
    from models.evaluation.likelihood import LikelihoodError
    from models.evaluation.table import table
    from models.metrics.effnet import FeaturesError

    torch.set_flush_denormal(True)
    if options["threads"]:
        torch.set_num_threads(options["threads"])
    home = settings_from(data_dir=options["data_dir"])
    source = Run(place_of(options["data_name"], home), home.datasets_dir, options["direction"], progress=click.echo)
    try:
        folder = Catalog(home.model_dirs).folder(reference)
        model = load_model(folder, torch.device("cpu"))
        folders = {name: Catalog(home.model_dirs).folder(name) for name in options["beside"]}
        beside = {name: load_model(other, torch.device("cpu")) for name, other in folders.items()}
        source = replace(source, beside=beside)
        changes = (_likelihood if options["likelihood"] else _images)(model, source, options)
    except ServiceError as error:
        raise click.ClickException(error.detail) from None
    except EvaluationError as error:
        raise click.UsageError(str(error)) from None
    except (CheckpointError, DataError, FeaturesError, LikelihoodError, RowsError) as error:
        raise click.ClickException(str(error)) from None
    if options["write"]:
        write_card(folder, {**model.card, **changes})
    for line in table(changes["metrics"]):
        click.echo(line)
    click.echo()
    click.echo(json.dumps(changes["metrics"], indent=2, ensure_ascii=False))


def _images(model: LoadedModel, source: Run, options: dict[str, Any]) -> dict[str, Any]:
    """What changes on the card: ``metrics``, ``calibration``, and the default steps if they were to be chosen."""
    from models.systems.registry import VARIANTS, variant_of

    variant = VARIANTS[variant_of(model.card)]
    run = replace(source, options=variant.evaluation.chosen(_given(options)))
    bench, metrics, steps = variant.evaluation.measure(model, run, choose=options["choose_steps"])
    kept = {name: value for name, value in model.card.get("metrics", {}).items() if name == "likelihood"}
    changes = {"metrics": {**kept, **metrics}, "calibration": variant.calibrate(model.kernels, bench.valid)}
    return changes if steps is None else {**changes, "tasks": _with_steps(model.card["tasks"], steps)}


def _given(options: dict[str, Any]) -> dict[str, int]:
    return {name: options[name] for name in NUMBERS if options[name] is not None}


def _likelihood(model: LoadedModel, source: Run, options: dict[str, Any]) -> dict[str, Any]:
    """The card's ``metrics`` with those of the likelihood."""
    from models.evaluation.base import EvaluationError
    from models.evaluation.bounds import evaluate_likelihood
    from models.evaluation.labels import splits_for
    from models.evaluation.likelihood import LikelihoodError, Settings
    from models.systems.registry import VARIANTS, variant_of

    if _given(options) or options["choose_steps"] or options["beside"]:
        raise EvaluationError("--likelihood measures the density alone; leave out the options of images")
    card = model.card
    density = VARIANTS[variant_of(card)].density
    if density is None:
        raise LikelihoodError(
            f"{card['name']} has no density over images by themselves, so its likelihood can't be measured; "
            "leave out --likelihood, or give a model of a system that learns one"
        )
    settings = Settings(options["temperatures"], options["leapfrog"], options["chains"], options["tau"])
    *_, test = splits_for(model, source)
    figures = evaluate_likelihood(density(model.kernels), test.images, settings, source.progress)
    return {"metrics": {**card.get("metrics", {}), "likelihood": figures}}


def _with_steps(tasks: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The tasks of a card with another default number of refinement steps; those that take none keep it so."""
    return {
        name: {**task, "defaults": {**task["defaults"], "steps": steps}} if task["defaults"]["steps"] > 0 else task
        for name, task in tasks.items()
    }
