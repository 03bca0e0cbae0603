"""``coopserve evaluate``: measure a model, and write what was measured on its card."""

from __future__ import annotations

import json
from dataclasses import replace

import click

from coopserve.configured import settings_from
from service.catalog import Catalog
from service.errors import ServiceError


@click.command()
@click.argument("reference")
@click.option("--data", "data_name", required=True, help="The data set that the model was trained on.")
@click.option("--per-class", default=100, show_default=True, help="Images a class for accuracy and KID.")
@click.option("--parzen-samples", default=10_000, show_default=True, help="Images for the Parzen windows.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch. [default: torch's own choice]")
@click.option("--choose-steps", is_flag=True, help="First set the default steps to what is best on validation images.")
@click.option("--write/--no-write", default=True, show_default=True, help="Put the figures on the model's card.")
def evaluate(
    reference: str,
    data_name: str,
    per_class: int,
    parzen_samples: int,
    threads: int | None,
    choose_steps: bool,
    write: bool,
) -> None:
    """Measure the model NAME or NAME@VERSION against held-out images, its proposals and its refined images alike."""
    import torch

    from models import evaluation
    from models.checkpoints import CheckpointError, read_card, write_card
    from models.data.images import DataError

    torch.set_flush_denormal(True)
    if threads:
        torch.set_num_threads(threads)
    home = settings_from()
    try:
        folder = Catalog(home.model_dirs).folder(reference)
        bench = evaluation.prepare(folder, data_name, home.datasets_dir, click.echo)
        card, chosen = read_card(folder), {}
        if choose_steps:
            steps, distances = evaluation.choose_steps(bench, per_class=3 * per_class, progress=click.echo)
            card["tasks"]["generate"]["defaults"]["steps"] = steps
            bench = replace(bench, defaults={**bench.defaults, "steps": steps})
            chosen = {"steps_chosen_on_validation": {"steps": steps, "kid": distances}}
        metrics = evaluation.evaluate(bench, per_class=per_class, parzen_samples=parzen_samples, progress=click.echo)
    except ServiceError as error:
        raise click.ClickException(error.detail) from None
    except (CheckpointError, DataError) as error:
        raise click.ClickException(str(error)) from None
    metrics |= chosen
    if write:
        write_card(folder, {**card, "metrics": metrics})
    click.echo(json.dumps(metrics, indent=2))
