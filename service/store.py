"""Records of jobs and trainings in Redis: submitted, leased to workers, listed and finished, each in one round trip.

Every change is a Lua script, so it is atomic and passes through one place (``move`` in ``lua/common.lua``) that
allows only the transitions of :data:`service.records.TRANSITIONS`. A worker holds a record by a **lease** that it
renews, and every write of it is fenced by its **attempt** number: a worker that was taken over can't commit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import redis
from pydantic import BaseModel
from pydantic_core import to_json

from service.errors import IdempotencyError, NotFoundError, StaleAttemptError
from service.records import Failure, Progress, Record, Status
from service.scripts import load_scripts

RecordT = TypeVar("RecordT", bound=Record)

IDEMPOTENCY_SECONDS = 86_400
MAX_ATTEMPTS = 5
_CONNECTIONS = 2048  # one a thread; the threads are bounded elsewhere
SWEEP_LIMIT = 100

_GAVE_UP = Failure(
    kind="worker-lost",
    detail=f"the worker stopped without an answer in each of {MAX_ATTEMPTS} attempts; try a smaller request",
)
# Given when it is written, derived when it is read.
_NOT_STORED = {"links", "queue_position", "status", "attempt", "created_at", "started_at", "finished_at"}


@dataclass(frozen=True)
class Idempotency:
    """A client's Idempotency-Key and the body that came with it."""

    key: str
    body: BaseModel

    def hashes(self) -> tuple[str, str]:
        """Short names of the key and of the body's content."""
        content = json.dumps(self.body.model_dump(mode="json", exclude_unset=True), sort_keys=True)
        body = f"{type(self.body).__name__} {content}"
        return tuple(hashlib.sha256(part.encode()).hexdigest() for part in (self.key, body))  # type: ignore[return-value]


class Queued(NamedTuple):
    """A record that should be sent to the queue again."""

    id: str
    priority: int


class Beat(NamedTuple):
    """A sign of life of one record's worker."""

    id: str
    attempt: int
    progress: Progress | None = None
    metrics: Mapping[str, float] | None = None


Pulse = Literal["ok", "cancel", "stale"]


def connect(url: str) -> redis.Redis:
    """A client for the store: text answers, short timeouts, many threads."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=5.0,
        socket_connect_timeout=2.0,
        socket_keepalive=True,
        max_connections=_CONNECTIONS,
    )


class RecordStore(Generic[RecordT]):
    """All records of one type. Safe to use from many threads.

    Args:
        client: a client made by :func:`connect`.
        record_type: :class:`service.jobs.JobRecord` or :class:`service.trainings.TrainingRecord`.
        namespace: what all keys begin with, for several deployments on one Redis.
    """

    def __init__(self, client: redis.Redis, record_type: type[RecordT], namespace: str = "coopserve") -> None:
        self._type = record_type
        self._client = client
        # The braces keep all keys of a store in one slot of a Redis cluster.
        self._prefix = f"{{{namespace}:{record_type.prefix}}}"
        self._unknown = f"unknown-{'job' if record_type.prefix == 'job' else 'training'}"
        self._scripts = {name: client.register_script(text) for name, text in load_scripts().items()}

    # ---- clients -------------------------------------------------------------------------------------------------

    def submit(
        self, record: RecordT, *, priority: int = 5, idempotency: Idempotency | None = None
    ) -> tuple[RecordT, bool]:
        """Put a new record in the queue; gives the stored record and whether it is new.

        With an idempotency key that was used before for the same body, gives the earlier record.

        Raises:
            IdempotencyError: the key was used before for another body.
        """
        key, body = idempotency.hashes() if idempotency else ("", "")
        document = record.model_dump_json(exclude=_NOT_STORED)
        answer = self._run("submit", record.id, document, priority, key, body, IDEMPOTENCY_SECONDS)
        if answer[0] == "conflict":
            assert idempotency is not None
            raise IdempotencyError(idempotency.key)
        return self._parse(answer[1]), answer[0] == "created"

    def get(self, id: str) -> RecordT:
        """The record as it is now.

        Raises:
            NotFoundError: there is none with this id.
        """
        return self._found(id, self._run("get", id))

    def page(self, status: Status | None, cursor: str | None, limit: int) -> tuple[list[RecordT], str | None]:
        """Records newest first, and the cursor of the next page (None at the end).

        Args:
            status: only records of this status.
            cursor: the cursor that came with the page before.
            limit: most records of the page.
        """
        index = f"status:{status}" if status else "all"
        answer = self._run("page", index, f"({cursor}" if cursor else "+", limit + 1)
        records = [self._parse(item) for item in answer if item[1]]
        more = len(answer) > limit
        return records[:limit], records[limit - 1].id if more else None

    def cancel(self, id: str) -> RecordT:
        """Cancel a queued record at once, ask a running one to stop, leave a finished one as it is.

        Raises:
            NotFoundError: there is none with this id.
        """
        return self._found(id, self._run("cancel", id))

    def counts(self) -> dict[Status, int]:
        """How many records have each status."""
        pipeline = self._client.pipeline(transaction=False)
        for status in Status:
            pipeline.zcard(f"{self._prefix}:status:{status}")
        return dict(zip(Status, pipeline.execute(), strict=True))

    def depth(self) -> int:
        """How many records wait in the queue."""
        return int(self._client.zcard(f"{self._prefix}:queued"))

    def events_key(self, id: str) -> str:
        """The Redis stream that holds the events of a record."""
        return f"{self._prefix}:events:{id}"

    @property
    def finished_channel(self) -> str:
        """The Redis channel where ids of finished records are announced."""
        return f"{self._prefix}:finished"

    # ---- workers -------------------------------------------------------------------------------------------------

    def claim(self, id: str, worker: str, lease_seconds: float) -> RecordT | None:
        """Take a queued record, with its attempt number raised; None if it is finished, leased elsewhere or unknown."""
        answer = self._run("claim", id, worker, lease_seconds, MAX_ATTEMPTS, _GAVE_UP.model_dump_json())
        return self._parse(answer) if answer else None

    def heartbeat_many(self, beats: Sequence[Beat], lease_seconds: float) -> list[Pulse]:
        """Renew leases, and write and announce progress and metrics where given; an answer for each beat, in order.

        ``cancel``: stop at the next step and finish as cancelled. ``stale``: drop it, another attempt has it.
        """
        if not beats:
            return []
        rows = [[beat.id, str(beat.attempt), _text(beat.progress), _text(beat.metrics)] for beat in beats]
        pulses: list[Pulse] = self._run("heartbeat", lease_seconds, json.dumps(rows))
        return pulses

    def heartbeat(
        self,
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
        (pulse,) = self.heartbeat_many([Beat(id, attempt, progress, metrics)], lease_seconds)
        self._fence(pulse != "stale", id, attempt)
        return pulse == "cancel"

    def emit(self, id: str, attempt: int, event: str, data: Mapping[str, Any], **fields: Any) -> None:
        """Announce something that happened (``preview``, ``sample`` ...), and write fields of the record with it.

        Raises:
            StaleAttemptError: the attempt has lost the record.
        """
        done = self._run("emit", id, attempt, event, _json(data), *self._pairs(fields))
        self._fence(done == 1, id, attempt)

    def finish(self, id: str, attempt: int, status: Status, **fields: Any) -> None:
        """Commit the end of an attempt: a terminal status and fields such as ``outputs`` or ``error``.

        Fields replace what the record had: ``warnings=[*record.warnings, "..."]`` adds one.

        Raises:
            StaleAttemptError: the attempt has lost the record; nothing was written.
        """
        if not status.terminal:
            raise ValueError(f"{status} is not the end of a record")
        done = self._run("finish", id, attempt, status.value, *self._pairs(fields))
        self._fence(done == 1, id, attempt)

    def release(self, id: str, attempt: int) -> None:
        """Hand an unfinished record back to the queue, as a worker that shuts down does; send its id again.

        Raises:
            StaleAttemptError: the attempt has lost the record.
        """
        self._fence(self._run("release", id, attempt) == 1, id, attempt)

    def requeue_expired(self) -> list[Queued]:
        """Take records from workers that fell silent; gives those that are queued again and must be sent again."""
        return _pairs_of(self._run("requeue_expired", MAX_ATTEMPTS, _GAVE_UP.model_dump_json(), SWEEP_LIMIT))

    def queued_since(self, seconds: float) -> list[Queued]:
        """Records that nobody claimed for so long since they were last sent: their message may be lost, send it again.

        Each is given out once in ``seconds``, however many sweeps there are.
        """
        return _pairs_of(self._run("unclaimed", seconds, SWEEP_LIMIT))

    # ---- inside --------------------------------------------------------------------------------------------------

    def _run(self, script: str, *args: str | float) -> Any:
        return self._scripts[script](keys=[self._prefix], args=args)

    def _found(self, id: str, answer: Sequence[Any]) -> RecordT:
        if not answer[1]:
            raise NotFoundError(self._unknown, f"there is no {self._unknown.removeprefix('unknown-')} {id[:100]!r}")
        return self._parse(answer)

    def _parse(self, answer: Sequence[Any]) -> RecordT:
        rank, flat = answer
        stored = dict(zip(flat[::2], flat[1::2], strict=True))
        fields: dict[str, Any] = json.loads(stored["_document"])
        for name, value in stored.items():
            if name == "status":
                fields[name] = value
            elif not name.startswith("_"):
                fields[name] = json.loads(value)
        fields["queue_position"] = rank if rank >= 0 else None
        return self._type.model_validate(fields)

    def _pairs(self, fields: Mapping[str, Any]) -> list[str]:
        if unknown := fields.keys() - self._type.model_fields.keys() | (fields.keys() & _NOT_STORED):
            raise ValueError(f"{self._type.__name__} has no such fields to write: {', '.join(sorted(unknown))}")
        return [part for name, value in fields.items() for part in (name, _json(value))]

    @staticmethod
    def _fence(held: bool, id: str, attempt: int) -> None:
        if not held:
            raise StaleAttemptError(f"attempt {attempt} does not hold {id} any more")


def _json(value: Any) -> str:
    return to_json(value, inf_nan_mode="null").decode()


def _text(value: Any) -> str | None:
    return None if value is None else _json(value)


def _pairs_of(flat: Sequence[Any]) -> list[Queued]:
    return [Queued(id, int(priority)) for id, priority in zip(flat[::2], flat[1::2], strict=True)]
