"""Settings for commands: a bad value gives one line of error, not a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from service.settings import Settings

data_dir = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder for all state. [default: COOPSERVE_DATA_DIR, or var]"
)
"""The option of every command that reads or writes state, so that all of them can be told of one place."""


def settings_from(**given: Any) -> Settings:
    """Settings from the environment, replaced by what was given on the command line."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise click.ClickException(f"{where}: {first['msg']}") from None


def address_of(settings: Settings) -> str:
    """The address at which a program on this machine reaches the API."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
