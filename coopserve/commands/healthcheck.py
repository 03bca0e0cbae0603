"""``coopserve healthcheck``: tells containers and process managers whether a part works."""

from __future__ import annotations

import click
import httpx
from redis import RedisError

from coopserve.configured import address_of, settings_from
from service.settings import Settings
from service.store.connection import connect
from service.store.presence import Presence, id_prefix

_SECONDS = 5.0
_KINDS = {"worker": "inference", "trainer": "training"}


@click.command()
@click.argument("part", type=click.Choice(["api", *_KINDS]))
def healthcheck(part: str) -> None:
    """Check a part that runs on this machine. The exit status is 0 if it works, 1 if not."""
    settings = settings_from()
    if part == "api":
        _check_api(address_of(settings))
    else:
        _check_worker(settings, _KINDS[part])


def _check_api(address: str) -> None:
    try:
        httpx.get(f"{address}/v2/health/live", timeout=_SECONDS).raise_for_status()
    except httpx.HTTPError as error:
        raise click.ClickException(f"the API at {address} does not work: {error}") from None


def _check_worker(settings: Settings, kind: str) -> None:
    """A worker announces itself while its heart beats; nothing but Redis need be asked."""
    try:
        with connect(settings.broker_url) as client:
            presence = Presence(client)
            workers, why = presence.workers(), presence.failure(kind)
    except (RedisError, ValueError) as error:
        raise click.ClickException(f"Redis does not answer: {error}") from None
    states = [said["state"] for id, said in workers.items() if id.startswith(id_prefix(kind))]
    if not states:
        raise click.ClickException(f"no {kind} worker of this machine has announced itself lately{_ended(why)}")
    if set(states) == {"starting"}:
        raise click.ClickException(f"the {kind} worker is still starting")
    if set(states) == {"stuck"}:
        raise click.ClickException(f"the device of the {kind} worker does not answer")


def _ended(why: str | None) -> str:
    return f"; one has ended: {why}" if why else ""
