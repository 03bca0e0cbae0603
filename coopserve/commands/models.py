"""``coopserve models``: the models that can be served."""

from __future__ import annotations

import json
from pathlib import Path

import click

from coopserve.configured import data_dir, settings_from
from service.contract.catalog import PICTURE, Catalog
from service.contract.errors import ServiceError


@click.group()
def models() -> None:
    """List models and show their cards."""


@models.command("list")
@data_dir
def list_models(data_dir: Path | None) -> None:
    """List all models and versions."""
    for model in Catalog(settings_from(data_dir=data_dir).model_dirs).list():
        what = f"{', '.join(model.card.tasks)}: {model.card.title}" if model.card else f"unavailable: {model.reason}"
        click.echo(f"{model.ref:28} {what}")


@models.command()
@click.argument("reference")
@data_dir
def picture(reference: str, data_dir: Path | None) -> None:
    """Draw what a model makes into its folder, for the playground: a few results with the sample pictures."""
    from coopserve.local import load
    from coopserve.portraits import keep_portrait
    from models.checkpoints import CheckpointError

    try:
        model = load(reference, data_dir=settings_from(data_dir=data_dir).data_dir)
        drawn = keep_portrait(model)
    except (ServiceError, CheckpointError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{model.folder / PICTURE}" if drawn else f"{model.card.ref} makes no images")


@models.command()
@click.argument("reference")
@data_dir
def show(reference: str, data_dir: Path | None) -> None:
    """Print the card of a model, given as NAME or NAME@VERSION."""
    try:
        card = Catalog(settings_from(data_dir=data_dir).model_dirs).get(reference)
    except ServiceError as error:
        raise click.ClickException(error.detail) from None
    click.echo(json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False))
