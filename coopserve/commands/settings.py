"""``coopserve settings``: every setting with its default, as the page ``docs/settings.md``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from service.settings import Settings

_INTRO = """# Settings

This page is what `coopserve settings` prints; `make docs` writes it.

Settings are environment variables. `coopserve serve --help` shows those that also have a flag; a flag wins. An empty
variable counts as absent. A value that is not valid ends the command with one line that says what is accepted.

| variable | default | meaning |
|---|---|---|
"""
_REPOSITORY = Path(__file__).resolve().parents[2]
_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


@click.command()
def settings() -> None:
    """Print all settings with their defaults, as Markdown."""
    click.echo(markdown(), nl=False)


def markdown() -> str:
    """The page of all settings."""
    rows = [
        f"| `COOPSERVE_{name.upper()}` | {_default(name, field.default)} | {field.description} |\n"
        for name, field in Settings.model_fields.items()
    ]
    return _INTRO + "".join(rows)


def _default(name: str, value: Any) -> str:
    """A default as a reader would write it; nothing for a setting that is absent by default."""
    if value is None:
        return ""
    if isinstance(value, Path):
        return f"`{value.relative_to(_REPOSITORY) if value.is_absolute() else value}`"
    if name.endswith("_bytes"):
        return next(f"{value // size} {unit}" for size, unit in _UNITS if value % size == 0)
    return f"`{str(value).lower()}`"
