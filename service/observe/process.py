"""How a process is observed: its log lines and traces name the request and the job that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.contract.records import Record
from service.observe import logs, tracing
from service.settings import Settings


def start(settings: Settings, name: str) -> None:
    """Log, and send traces if the settings ask for it; once a process.

    Args:
        settings: level and format of log lines, and whether traces are sent.
        name: what the process is called in traces.

    Raises:
        MissingExtraError: traces are asked for, but their packages are not installed.
    """
    logs.configure(settings.log_level, settings.log_format)
    if settings.otel:
        tracing.configure(name)


def context() -> dict[str, str]:
    """What a record that is made now carries to its worker: the request's id and its trace."""
    return {"request_id": logs.request_id.get(), **tracing.carried()}


@contextmanager
def working_on(record: Record) -> Iterator[None]:
    """One attempt at a job or training, in this thread."""
    with logs.about(record), tracing.attempt(record):
        yield
