"""Log lines that name the request and the job they belong to, as text or as JSON."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from service.contract.records import Record

request_id: ContextVar[str] = ContextVar("request_id", default="-")
"""The id of the request that is being answered, or that has made the job in work."""
job_id: ContextVar[str] = ContextVar("job_id", default="-")
"""The id of the job or training in work."""

_FORMATS: dict[str, dict[str, Any]] = {
    "text": {"format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s %(job_id)s] %(message)s"},
    "json": {
        "()": "pythonjsonlogger.json.JsonFormatter",
        "format": "%(levelname)s %(name)s %(request_id)s %(job_id)s %(message)s",
        "rename_fields": {"levelname": "level", "name": "logger"},
        "timestamp": "time",
    },
}


class ContextFilter(logging.Filter):
    """Puts the ids of request and job into each log record as ``request_id`` and ``job_id``."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, with its ids."""
        record.request_id, record.job_id = request_id.get(), job_id.get()
        return True


@contextmanager
def about(record: Record) -> Iterator[None]:
    """Lines that this thread writes in the block belong to a job or training, and to the request that made it."""
    tokens = job_id.set(record.id), request_id.set(record.context.get("request_id", "-"))
    try:
        yield
    finally:
        job_id.reset(tokens[0])
        request_id.reset(tokens[1])


def configure(level: str, form: str = "text") -> None:
    """Log to standard error.

    Args:
        level: the least level that is logged: debug, info, warning or error.
        form: ``text``, or ``json`` for one object a line.
    """
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"context": {"()": ContextFilter}},
            "formatters": {"line": _FORMATS[form]},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["context"]}},
            "loggers": {
                "httpx": {"level": "WARNING"}
            },  # it would write the addresses of webhooks, which may be secrets
            "root": {"level": level.upper(), "handlers": ["stderr"]},
        }
    )
