"""Log lines that name the request they belong to."""

from __future__ import annotations

import logging
import logging.config
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request that is being answered."""


class RequestIdFilter(logging.Filter):
    """Puts the request's id into each log record as ``request_id``."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, with its ``request_id``."""
        record.request_id = request_id.get()
        return True


def configure(level: str) -> None:
    """Log to standard error from ``level`` (debug, info, warning or error) on."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"request": {"()": RequestIdFilter}},
            "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request"]}},
            "root": {"level": level.upper(), "handlers": ["stderr"]},
        }
    )
