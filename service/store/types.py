"""What the record store is given and what it gives back, apart from the records themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypedDict

from pydantic import BaseModel

from service.contract.records import Failure, Progress, Record

TOO_LATE = Failure(
    kind="queue-timeout",
    detail="no worker had room for it within its max_queue_seconds; try again later, or allow a longer wait",
).model_dump_json()


def gave_up(record_type: type[Record]) -> str:
    """Why a record of this type fails whose attempts were lost too often."""
    detail = f"{record_type.max_lost} {record_type.lost}"
    return Failure(kind="worker-lost", detail=detail).model_dump_json()


@dataclass(frozen=True)
class Idempotency:
    """A client's Idempotency-Key, the body that came with it, and the owner, for keys are each owner's own."""

    key: str
    body: BaseModel
    owner: str | None = None

    @cached_property
    def hashes(self) -> tuple[str, str]:
        """Short names of the key and of the body's content; made once, for a body with pictures is long."""
        content = json.dumps(self.body.model_dump(mode="json", exclude_unset=True), sort_keys=True)
        body = f"{type(self.body).__name__} {content}"
        key = self.key if self.owner is None else f"{self.owner} {self.key}"
        return tuple(hashlib.sha256(part.encode()).hexdigest() for part in (key, body))  # type: ignore[return-value]


@dataclass(frozen=True)
class QueueLimits:
    """What a submission must not exceed; None: no limit.

    Args:
        max_queued: records in the queue, of everybody.
        max_active: records of the owner that are queued or running.
        max_cost: sum of the costs of these.
    """

    max_queued: int | None = None
    max_active: int | None = None
    max_cost: float | None = None


class Queued(NamedTuple):
    """A record that should be sent to the queue again."""

    id: str
    priority: int


class Message(NamedTuple):
    """What wakes a worker, as Celery's transport for Redis reads it.

    Args:
        list: the Redis list that is the queue for messages of its priority.
        text: an envelope of kombu with a Celery message of protocol 2.
    """

    list: str
    text: str


class Name(NamedTuple):
    """The name that a training publishes under. It is its owner's from the submission to the training's end.

    Args:
        name: of the model.
        owner: whose it will be; None: everybody's.
        adopt: whether it is another's instead, if somebody else trains under the name just now; else it is refused.
    """

    name: str
    owner: str | None
    adopt: bool = False


@dataclass(frozen=True)
class StorageLimits:
    """What may be stored, in bytes; None: no limit.

    Args:
        owner: of one owner, pictures and records.
        all: of everybody, pictures and records.
        records: of everybody, records alone; they are in the memory of the database.
    """

    owner: int | None = None
    all: int | None = None
    records: int | None = None


class Terms(TypedDict, total=False):
    """On what terms a record is submitted.

    Args:
        priority: 9 leaves the queue first, 0 last; 5 if absent.
        queue: where it waits, the name of its model; a worker that has its share of one queue takes records of others.
        owner: whose it is; counted against the owner's limits, and listed with the owner's.
        cost: what it adds to the owner's cost while it is active.
        max_queue_seconds: it fails if no worker has started it by then.
        idempotency: the client's key.
        limits: what refuses it.
        name: what a training publishes under.
        bytes: what its outputs may take; its end tells what they do take.
        storage: what may be stored.
        message: what wakes a worker; sent if the record is new.
    """

    priority: int
    queue: str
    owner: str | None
    cost: float
    max_queue_seconds: float | None
    idempotency: Idempotency | None
    limits: QueueLimits
    name: Name
    bytes: int
    storage: StorageLimits
    message: Message | None


class Claim(NamedTuple):
    """A worker's wish for the next record.

    Args:
        worker: its id.
        lease_seconds: how long the claim holds without a heartbeat.
        share: the most records of one queue that the worker may hold; None: no limit.
    """

    worker: str
    lease_seconds: float
    share: int | None = None


class Beat(NamedTuple):
    """A sign of life of one record's worker."""

    id: str
    attempt: int
    progress: Progress | None = None
    metrics: Mapping[str, float] | None = None


class Expired(NamedTuple):
    """A record whose time is over: what belongs to it is to be deleted, and then it is to be forgotten."""

    id: str
    owner: str


Pulse = Literal["ok", "cancel", "stale"]
