"""``coopserve run``: a task on a running server, from its fields to files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from coopserve.client import Job, Result
from coopserve.remote import client_of, of_server


@click.command()
@click.argument("task")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="Folder of the files.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the record of the job.")
@click.option("--detach", is_flag=True, help="Print the id of the job and leave it to the server.")
@of_server
def run(
    task: str, fields: tuple[str, ...], out: Path, as_json: bool, detach: bool, url: str | None, key: str | None
) -> None:
    """Run TASK on a server and write its images as files.

    Fields are those of the API: model=fashion-ccoopnets label=Sneaker n=4. A value is JSON where it can be read as
    such, else text; image=@FILE sends a file, options.factor=2 sets a member of a field.
    """
    body = fields_of(fields)
    with client_of(url, key) as client:
        job = client.submit(task, **body)
        if detach:
            click.echo(job.id)
            return
        try:
            _show_progress(job)
            result = job.result()
        except KeyboardInterrupt:
            job.cancel()
            raise click.ClickException(f"{job.id} was cancelled") from None
    if as_json:
        click.echo(json.dumps(result.record, indent=2, ensure_ascii=False))
    written = write(result, out)
    if not as_json:
        _tell(result, written)


def fields_of(words: Sequence[str]) -> dict[str, Any]:
    """The fields that words like ``n=4``, ``image=@FILE`` and ``options.factor=2`` give."""
    fields: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        *outer, name = path.split(".")
        if not equals or not name or not all(outer):
            raise click.UsageError(f"write fields as NAME=VALUE, not {word!r}")
        place = fields
        for member in outer:
            place = place.setdefault(member, {})
            if not isinstance(place, dict):
                raise click.UsageError(f"{member} is given twice")
        if name in place:
            raise click.UsageError(f"{path} is given twice")
        place[name] = _value(text)
    return fields


def _value(text: str) -> Any:
    if text.startswith("@"):
        file = Path(text[1:])
        if not file.is_file():
            raise click.UsageError(f"there is no file {text[1:]!r}")
        return file
    try:
        return json.loads(text)
    except ValueError:
        return text


def write(result: Result, folder: Path) -> list[Path]:
    """Write the pictures of a job into a folder."""
    if not result.images:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    record = result.record
    head = f"{record['task']}-{record['id'].removeprefix('job_')[-12:]}"
    return [picture.save(folder / f"{head}-{k}.png") for k, picture in enumerate(result.images)]


def _tell(result: Result, written: Sequence[Path]) -> None:
    for path, picture in zip(written, result.images, strict=True):
        energy = "" if picture.energy is None else f"  energy {picture.energy:.4g}"
        click.echo(f"{path}  seed {picture.seed}{energy}")
    if not written:
        click.echo(json.dumps(result.outputs, indent=2))
    for warning in result.warnings:
        click.echo(f"note: {warning}", err=True)


def _show_progress(job: Job) -> None:
    """Tell a person who waits how far a job is."""
    if not sys.stderr.isatty():
        return
    for event in job.events():
        if event.name == "progress":
            click.echo(f"\r{event.data['stage']} {event.data['step']}/{event.data['steps']}   ", nl=False, err=True)
    click.echo("\r", nl=False, err=True)
