"""Commands that call a running server: where it is, the key for it, and its errors as one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from coopserve.client import Client, ClientError
from coopserve.configured import address_of, settings_from

F = TypeVar("F", bound=Callable[..., Any])

_URL = click.option(
    "--url", envvar="COOPSERVE_URL", help="Address of the server, or COOPSERVE_URL. [default: the one on this machine]"
)
_KEY = click.option("--key", envvar="COOPSERVE_KEY", help="API key; better given as COOPSERVE_KEY, which nobody sees.")


def of_server(command: F) -> F:
    """The options of a command that calls a server: ``url`` and ``key``."""
    return _URL(_KEY(command))


@contextmanager
def client_of(url: str | None, key: str | None) -> Iterator[Client]:
    """A client of the server that is meant; what goes wrong with it ends the command with a line."""
    try:
        with Client(url or address_of(settings_from()), key) as client:
            yield client
    except (ClientError, ValueError) as error:
        raise click.ClickException(str(error)) from None
