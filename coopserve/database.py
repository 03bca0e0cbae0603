"""Where the database of a running server is, for commands that run beside it."""

from __future__ import annotations

from pathlib import Path

from service.settings import Settings


def url_file(data_dir: Path) -> Path:
    """Where a server that has started its own database notes the address."""
    return data_dir / "valkey" / "url"


def running_url(settings: Settings) -> str | None:
    """The Redis URL that is configured, or that a server with this data folder has noted; None if there is neither."""
    if settings.redis_url:
        return settings.redis_url
    try:
        return url_file(settings.data_dir).read_text().strip()
    except FileNotFoundError:
        return None
