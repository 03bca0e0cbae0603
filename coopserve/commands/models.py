"""``coopserve models``: the models that can be served."""

from __future__ import annotations

import json
from pathlib import Path

import click

from coopserve.configured import data_dir, settings_from
from service.contract.catalog import Catalog
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
def show(reference: str, data_dir: Path | None) -> None:
    """Print the card of a model, given as NAME or NAME@VERSION."""
    try:
        card = Catalog(settings_from(data_dir=data_dir).model_dirs).get(reference)
    except ServiceError as error:
        raise click.ClickException(error.detail) from None
    click.echo(json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False))
