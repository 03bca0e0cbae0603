"""``coopserve jobs``: the jobs of a running server."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import click

from coopserve.commands.run import write
from coopserve.remote import client_of, of_server

_STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")


@click.group()
def jobs() -> None:
    """List, show and cancel the jobs of a server."""


@jobs.command("list")
@click.option("--status", type=click.Choice(_STATUSES), help="Only jobs with this status.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Most jobs to list.")
@of_server
def list_jobs(status: str | None, limit: int, url: str | None, key: str | None) -> None:
    """List jobs, newest first."""
    with client_of(url, key) as client:
        for job in islice(client.jobs(status), limit):
            record, progress = job.record, job.record["progress"]
            at = f"{progress['stage']} {progress['step']}/{progress['steps']}" if progress else ""
            row = f"{job.id}  {job.status:9}  {record['created_at'][:19]}  {record['task']:11}  {record['model']}  {at}"
            click.echo(row.rstrip())


@jobs.command()
@click.argument("id")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write the images of the job to."
)
@of_server
def show(id: str, out: Path | None, url: str | None, key: str | None) -> None:
    """Print the record of the job ID, and write its images if a folder is given."""
    with client_of(url, key) as client:
        job = client.job(id)
        if out is not None:
            for path in write(job.result(timeout=0), out):
                click.echo(path, err=True)
        click.echo(json.dumps(job.record, indent=2, ensure_ascii=False))


@jobs.command()
@click.argument("id")
@of_server
def cancel(id: str, url: str | None, key: str | None) -> None:
    """Cancel the job ID; it stops between two steps."""
    with client_of(url, key) as client:
        click.echo(f"{id} is {client.job(id).cancel().status}")
