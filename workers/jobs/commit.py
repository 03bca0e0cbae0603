"""The end of a worker's hold on a job: its result is committed, or it is handed back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from redis import RedisError

from service.contract.errors import StaleAttemptError
from service.contract.jobs import JobRecord
from service.contract.records import Status
from service.store.store import RecordStore
from service.store.types import Claim, Queued
from workers.chains.chain import Chain
from workers.chains.keeper import Keeper
from workers.upkeep.patience import patiently

log = logging.getLogger(__name__)


def commit(
    store: RecordStore[JobRecord],
    record: JobRecord,
    status: Status,
    fields: Mapping[str, Any],
    terms: Callable[[], Claim | None],
) -> JobRecord | None:
    """Write the end of a job, and claim the next one in the same round trip if there are terms for it.

    Raises:
        StaleAttemptError: another attempt has the job.
        RedisError: the store has not answered for a minute.
    """
    return patiently(lambda: store.finish(record.id, record.attempt, status, terms(), **fields))


def hand_back(
    store: RecordStore[JobRecord],
    send: Callable[[Queued], None],
    record: JobRecord,
    keeper: Keeper,
    chain: Chain | None,
) -> None:
    """Queue a job again, with its chain where it is now, and send its message."""
    if chain is not None:
        keeper.save(chain)
    keeper.close()
    try:
        store.release(record.id, record.attempt)
        send(Queued(record.id, record.params["priority"]))
    except (StaleAttemptError, RedisError) as error:
        log.warning("%s was not handed back, its lease will run out: %s", record.id, error)
