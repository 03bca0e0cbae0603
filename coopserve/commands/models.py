"""``coopserve models``: the models that can be served."""

from __future__ import annotations

import json

import click

from coopserve.configured import settings_from
from service.contract.catalog import Catalog
from service.contract.errors import ServiceError


@click.group()
def models() -> None:
    """List models and show their cards."""


@models.command("list")
def list_models() -> None:
    """List all models and versions."""
    for model in Catalog(settings_from().model_dirs).list():
        what = f"{', '.join(model.card.tasks)}: {model.card.title}" if model.card else f"unavailable: {model.reason}"
        click.echo(f"{model.ref:28} {what}")


@models.command()
@click.argument("reference")
def show(reference: str) -> None:
    """Print the card of a model, given as NAME or NAME@VERSION."""
    try:
        card = Catalog(settings_from().model_dirs).get(reference)
    except ServiceError as error:
        raise click.ClickException(error.detail) from None
    click.echo(json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False))
