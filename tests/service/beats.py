"""The sign of life of one record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.contract.errors import StaleAttemptError
from service.contract.records import Progress
from service.store.store import RecordStore
from service.store.types import Beat


def heartbeat(
    store: RecordStore[Any],
    id: str,
    attempt: int,
    lease_seconds: float,
    progress: Progress | None = None,
    metrics: Mapping[str, float] | None = None,
) -> bool:
    """Renew one lease; True if the record was asked to stop.

    Raises:
        StaleAttemptError: the attempt has lost the record.
    """
    (pulse,) = store.heartbeat([Beat(id, attempt, progress, metrics)], lease_seconds)
    if pulse == "stale":
        raise StaleAttemptError(f"attempt {attempt} does not hold {id} any more")
    return pulse == "cancel"
