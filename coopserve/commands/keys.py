"""``coopserve keys``: the API keys of a deployment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from redis.exceptions import RedisError

from coopserve.configured import data_dir, settings_from
from coopserve.database import running_url
from service.access.keys import OWNER, Keys, Scope
from service.access.limits import RATE
from service.store.connection import connect


@click.group()
def keys() -> None:
    """Add, list and revoke API keys."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    default=[Scope.USE.value],
    show_default=True,
    help="What the key allows: use = jobs, images and models; train = trainings; admin = everything. Repeatable.",
)
@click.option(
    "--max-active", type=click.IntRange(min=1), help="Most unfinished jobs of NAME. [default: COOPSERVE_MAX_ACTIVE]"
)
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0, min_open=True),
    help="Most that unfinished jobs of NAME may cost: images x steps x pixels. [default: COOPSERVE_MAX_COST]",
)
@click.option("--rate", help="Rate of requests, such as 60/minute. [default: COOPSERVE_RATE_LIMIT]")
@data_dir
def add(
    name: str,
    scopes: tuple[str, ...],
    max_active: int | None,
    max_cost: float | None,
    rate: str | None,
    data_dir: Path | None,
) -> None:
    """Make an API key for NAME and show it once.

    Keys of the same NAME share their jobs, images and limits. To change a key, add a new one and revoke the old one.
    """
    if not re.fullmatch(OWNER, name):
        raise click.BadParameter("use letters, digits, dots, hyphens and underscores, at most 64", param_hint="NAME")
    if rate is not None and not re.fullmatch(RATE, rate):
        raise click.BadParameter("use a number and a unit of time, such as 60/minute or 5/second", param_hint="--rate")
    with _keys(data_dir) as store:
        granted = frozenset(map(Scope, scopes))
        new = store.add(name, granted, max_active=max_active, max_cost=max_cost, rate=rate)
    click.echo(f"key             {new.token}")
    click.echo(f"webhook secret  {new.key.webhook_secret}")
    click.echo("Keep both: the key is not stored and can't be shown again.", err=True)


@keys.command("list")
@data_dir
def list_keys(data_dir: Path | None) -> None:
    """List all keys, without their secrets."""
    with _keys(data_dir) as store:
        for key in store.all():
            limits = {"active": key.max_active, "cost": key.max_cost, "rate": key.rate}
            shown = " ".join(f"{name}={value}" for name, value in limits.items() if value is not None)
            scopes = ",".join(sorted(key.scopes))
            click.echo(f"{key.id}  {key.owner:20} {scopes:16} {key.created_at:%Y-%m-%d %H:%M}  {shown}".rstrip())


@keys.command()
@click.argument("id")
@data_dir
def revoke(id: str, data_dir: Path | None) -> None:
    """Revoke the key with this ID, which `coopserve keys list` shows. It stops working within seconds."""
    with _keys(data_dir) as store:
        if not store.revoke(id):
            raise click.ClickException(f"there is no key with the id {id!r}; `coopserve keys list` shows them")
    click.echo(f"revoked {id}")


@contextmanager
def _keys(data_dir: Path | None) -> Iterator[Keys]:
    url = running_url(settings_from(data_dir=data_dir))
    if url is None:
        raise click.ClickException(
            "no database: set COOPSERVE_REDIS_URL, or start `coopserve serve` with this data folder"
        )
    try:
        with connect(url) as client:
            yield Keys(client)
    except RedisError as error:
        raise click.ClickException(f"the database does not answer ({error}); is the server running?") from None
