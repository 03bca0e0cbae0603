"""The command line ``coopserve``: its commands that start a process are here, the others in ``commands/``."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click

from coopserve.commands.data import data
from coopserve.commands.demo import demo
from coopserve.commands.evaluate import evaluate
from coopserve.commands.healthcheck import healthcheck
from coopserve.commands.jobs import jobs
from coopserve.commands.keys import keys
from coopserve.commands.models import models
from coopserve.commands.run import run
from coopserve.commands.settings import settings
from coopserve.commands.train import train
from coopserve.commands.travel import export, import_model, pull, push, remove
from coopserve.configured import data_dir, settings_from
from coopserve.parts import HOPELESS, StartError
from service.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="coopserve")
def main() -> None:
    """Train and serve cooperative, energy-based image models."""


main.add_command(run)
main.add_command(jobs)
main.add_command(train)
main.add_command(evaluate)
main.add_command(models)
for command in (export, import_model, remove, push, pull):
    models.add_command(command)
main.add_command(keys)
main.add_command(data)
main.add_command(demo)
main.add_command(healthcheck)
main.add_command(settings)


@main.command()
@click.option("--host", help="Address to listen on. [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on. [default: 8000]")
@data_dir
@click.option("--device", help="Where models run: auto, cpu, cuda, cuda:N. [default: auto]")
@click.option("--trainer/--no-trainer", default=True, help="Also run a training worker.", show_default=True)
@click.option("--repair", is_flag=True, help="First cut damaged files of the database off; a copy of them is kept.")
def serve(device: str | None, trainer: bool, repair: bool, **given: Any) -> None:
    """Run all parts on this machine: database, API, inference worker and trainer."""
    from coopserve.embedded import Supervisor

    settings = settings_from(device=device, **given)

    def announce(address: str) -> None:
        click.echo(f"coopserve is ready: open {address}/ in a browser; the API is at {address}/docs (Ctrl-C stops it)")

    try:
        Supervisor(settings, trainer=trainer, repair=repair).run(announce)
    except StartError as error:
        raise click.ClickException(str(error)) from None


@main.command()
def api() -> None:
    """Run the HTTP API alone, configured by COOPSERVE_* variables."""
    from service.app import create_app
    from service.http.server import listening, make_server, raise_descriptors

    settings = _started("coopserve-api")
    raise_descriptors()
    with suppress(KeyboardInterrupt):  # which uvicorn sends again once it has ended in order
        make_server(create_app(settings), settings).run(listening(settings))


@main.command()
def worker() -> None:
    """Run an inference worker alone, configured by COOPSERVE_* variables."""
    from workers.app import make_inference_worker

    settings = _started("coopserve-worker")
    _check_device(settings, "inference")
    make_inference_worker(settings).serve(settings.log_level)


@main.command()
def trainer() -> None:
    """Run a training worker alone, configured by COOPSERVE_* variables."""
    from workers.app import make_training_worker

    settings = _started("coopserve-trainer")
    _check_device(settings, "training")
    make_training_worker(settings).serve(settings.log_level)


def _check_device(settings: Settings, kind: str) -> None:
    """End a worker that could do nothing; the API's health tells why."""
    from service.store.connection import connect
    from service.store.presence import Presence
    from workers.device import DeviceError, usable_device
    from workers.upkeep.farewell import tell_failure

    try:
        usable_device(settings.device)
    except DeviceError as error:
        with connect(settings.broker_url) as client:
            tell_failure(Presence(client), kind, str(error))
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(HOPELESS) from None


def _started(name: str) -> Settings:
    """Set up the logs and traces of a part that runs by itself; gives its settings."""
    from service.observe import process as observability
    from service.observe import tracing

    settings = settings_from()
    if settings.redis_url is None:
        raise click.ClickException("no Redis is configured: set COOPSERVE_REDIS_URL, or run `coopserve serve`")
    try:
        observability.start(settings, name)
    except tracing.MissingExtraError as error:
        raise click.ClickException(str(error)) from None
    return settings
