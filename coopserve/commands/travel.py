"""``coopserve models export|import|rm|push|pull``: models that come and go."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from coopserve.configured import data_dir, settings_from
from coopserve.travel.layout import TravelError
from service.contract.catalog import Catalog
from service.contract.errors import ServiceError
from service.settings import Settings

_NAME = click.option("--name", help="Name of the model here. [default: its own]")


@click.command("export")
@click.argument("reference")
@click.argument("folder", type=click.Path(path_type=Path))
@data_dir
def export(reference: str, folder: Path, data_dir: Path | None) -> None:
    """Write the model NAME or NAME@VERSION into a new FOLDER, in the layout of the Hugging Face Hub."""
    click.echo(f"{_left(settings_from(data_dir=data_dir), reference, folder)} is in {folder}")


@click.command("import")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@_NAME
@data_dir
def import_model(folder: Path, name: str | None, data_dir: Path | None) -> None:
    """Add the model in FOLDER. Its hashes are checked and it is loaded once; servers see it without a restart."""
    _arrived(settings_from(data_dir=data_dir), folder, name)


@click.command("rm")
@click.argument("reference", metavar="NAME@VERSION")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_dir
def remove(reference: str, yes: bool, data_dir: Path | None) -> None:
    """Delete a version of a model for good. Its number is not given again."""
    from models.checkpoints import remove

    settings = settings_from(data_dir=data_dir)
    models = {model.ref: model for model in Catalog([settings.models_dir]).list()}
    if reference not in models:
        shipped = {model.ref for model in Catalog(settings.model_dirs).list()}
        what = "ships with the program" if reference in shipped else "is not there; write NAME@VERSION"
        raise click.ClickException(f"{reference} {what}; in {settings.models_dir} are: {', '.join(models) or 'none'}")
    if not yes:
        click.confirm(f"Delete {models[reference].folder}?", abort=True)
    remove(models[reference].folder)
    click.echo(f"deleted {reference}")


@click.command()
@click.argument("reference")
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make a private repository, if it is made.")
@data_dir
def push(reference: str, repository: str, private: bool, data_dir: Path | None) -> None:
    """Upload the model NAME or NAME@VERSION to the Hugging Face Hub (extra `hub`; log in with `hf auth login`)."""
    from coopserve.travel import hub

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        _left(settings_from(data_dir=data_dir), reference, folder)
        try:
            click.echo(hub.push(folder, repository, private=private))
        except TravelError as error:
            raise click.ClickException(str(error)) from None


@click.command()
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--revision", help="Branch, tag or commit. [default: main]")
@_NAME
@data_dir
def pull(repository: str, revision: str | None, name: str | None, data_dir: Path | None) -> None:
    """Add a model of the Hugging Face Hub (extra `hub`), checked as `models import` does."""
    from coopserve.travel import hub

    with tempfile.TemporaryDirectory() as scratch:
        try:
            hub.pull(repository, Path(scratch), revision=revision)
        except TravelError as error:
            raise click.ClickException(str(error)) from None
        _arrived(settings_from(data_dir=data_dir), Path(scratch), name)


def _left(settings: Settings, reference: str, folder: Path) -> str:
    from coopserve.travel.leaving import leave

    try:
        return leave(Catalog(settings.model_dirs), reference, folder).ref
    except ServiceError as error:
        raise click.ClickException(error.detail) from None
    except TravelError as error:
        raise click.ClickException(str(error)) from None


def _arrived(settings: Settings, folder: Path, name: str | None) -> None:
    from coopserve.travel.arriving import arrive  # loads torch

    try:
        arrived = arrive(
            folder,
            settings.models_dir,
            beside=settings.checkpoints_dir,
            limits=settings.picture_limits,
            name=name,
        )
    except TravelError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{arrived.ref} is there" if arrived.new else f"{arrived.ref} is the same model; nothing was changed")
