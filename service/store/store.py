"""Records of jobs and trainings in Redis: leased to workers, listed and finished, each in one round trip.

Every change is a Lua script, so it is atomic and passes through one place (``move`` in ``lua/common.lua``) that
allows only the transitions of :data:`service.contract.records.TRANSITIONS`. A worker holds a record by a **lease** that
it renews, and every write of it is fenced by its **attempt** number: a worker that was taken over can't commit.

The queue is here, too: by priority, then by creation, so that a record whose worker was lost keeps its place. Each
record waits in a queue of its own model, and a worker holds at most a fixed **share** of its places for one model, so
that no model keeps another one's jobs out. This order is the only scheduler: Celery wakes workers and runs their pool.
A finished record is kept for a while and then forgotten with all that belongs to it. New records come in by
:mod:`service.store.submission`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic

import redis

from service.contract.errors import ActiveError, NotFoundError, StaleAttemptError
from service.contract.records import Failure, Status
from service.store import codec
from service.store.codec import RecordT
from service.store.scripts import Scripts
from service.store.types import (
    TOO_LATE,
    Beat,
    Claim,
    Expired,
    Pulse,
    Queued,
    gave_up,
)

SWEEP_LIMIT = 100
LACK_SECONDS = 10
"""A worker that could not load a model is given no jobs of it for so long; its files may be repaired meanwhile."""


class RecordStore(Generic[RecordT]):
    """All records of one type. Safe to use from many threads.

    Args:
        client: a client made by :func:`service.store.connection.connect`.
        record_type: :class:`service.contract.jobs.JobRecord` or :class:`service.contract.trainings.TrainingRecord`.
        namespace: what all keys begin with, for several deployments on one Redis.
    """

    def __init__(self, client: redis.Redis, record_type: type[RecordT], namespace: str = "coopserve") -> None:
        self._type = record_type
        self._client = client
        self._scripts = Scripts(client, record_type, namespace)
        self._prefix = self._scripts.prefix
        self._unknown = f"unknown-{'job' if record_type.prefix == 'job' else 'training'}"

    # ---- clients -------------------------------------------------------------------------------------------------

    def get(self, id: str) -> RecordT:
        """The record as it is now.

        Raises:
            NotFoundError: there is none with this id.
        """
        return self._found(id, self._run("get", id))

    def page(
        self, status: Status | None, cursor: str | None, limit: int, owner: str | None = None
    ) -> tuple[list[RecordT], str | None]:
        """Records newest first, and the cursor of the next page (None at the end).

        Args:
            status: only records of this status.
            cursor: the cursor that came with the page before.
            limit: most records of the page.
            owner: only records of this owner.
        """
        index = f"status:{status}" if status else "all"
        if owner is not None:
            index = f"owner:{owner}:{index}"
        following, records = self._run("page", index, f"({cursor}" if cursor else "+", limit)
        return [self._parse(item) for item in records], following or None

    def cancel(self, id: str) -> RecordT:
        """Cancel a queued record at once, ask a running one to stop, leave a finished one as it is.

        Raises:
            NotFoundError: there is none with this id.
        """
        return self._found(id, self._run("cancel", id))

    def delete(self, id: str) -> Expired:
        """Delete a record that has ended. It is gone for clients; what belongs to it must be deleted, then forgotten.

        Raises:
            NotFoundError: there is none with this id.
            ActiveError: it has not ended.
        """
        outcome, *owner = self._run("delete", id)
        if outcome == "unknown":
            raise self.unknown(id)
        if outcome == "active":
            raise ActiveError(id)
        return Expired(id, owner[0])

    def counts(self) -> dict[Status, int]:
        """How many records have each status."""
        pipeline = self._client.pipeline(transaction=False)
        for status in Status:
            pipeline.zcard(f"{self._prefix}:status:{status}")
        return dict(zip(Status, pipeline.execute(), strict=True))

    def depth(self) -> int:
        """How many records wait in the queue."""
        return int(self._client.zcard(f"{self._prefix}:queued"))

    def unknown(self, id: str) -> NotFoundError:
        """The error for an id that no record has."""
        return NotFoundError(self._unknown, f"there is no {self._unknown.removeprefix('unknown-')} {id[:100]!r}")

    def events_key(self, id: str) -> str:
        """The Redis stream that holds the events of a record."""
        return f"{self._prefix}:events:{id}"

    @property
    def finished_channel(self) -> str:
        """The Redis channel where finished records are announced: the id, a space, and what ``announced`` reads."""
        return f"{self._prefix}:finished"

    # ---- workers -------------------------------------------------------------------------------------------------

    def claim(self, id: str, worker: str, lease_seconds: float) -> RecordT | None:
        """Take a queued record, with its attempt number raised; None if it is finished, leased elsewhere or unknown."""
        answer = self._run("claim", id, worker, lease_seconds, self._type.max_lost, gave_up(self._type), TOO_LATE)
        return self._parse(answer) if answer else None

    def claim_next(self, claim: Claim) -> RecordT | None:
        """Take the first record of the queue that the worker may have; None if there is none."""
        answer = self._run("claim_next", *codec.claim_args(claim))
        return self._parse(answer) if answer else None

    def waiting(self, limit: int, worker: str = "", share: int | None = None) -> list[Queued]:
        """At most ``limit`` queued records that a worker with this share may have."""
        flat = self._run("waiting", limit, worker, codec.or_empty(share))
        return codec.queued_of(flat)[:limit]

    def heartbeat(self, beats: Sequence[Beat], lease_seconds: float) -> list[Pulse]:
        """Renew leases, and write and announce progress and metrics where given; an answer for each beat, in order.

        ``cancel``: stop at the next step and finish as cancelled. ``stale``: drop it, another attempt has it.
        """
        if not beats:
            return []
        rows = [
            [beat.id, str(beat.attempt), codec.text_or_null(beat.progress), codec.text_or_null(beat.metrics)]
            for beat in beats
        ]
        pulses: list[Pulse] = self._run("heartbeat", lease_seconds, json.dumps(rows))
        return pulses

    def emit(self, id: str, attempt: int, event: str, data: Mapping[str, Any], **fields: Any) -> None:
        """Announce something that happened (``preview``, ``sample`` ...), and write fields of the record with it.

        Raises:
            StaleAttemptError: the attempt has lost the record.
        """
        done = self._run("emit", id, attempt, event, codec.json_of(data), *codec.pairs_of(self._type, fields))
        self._fence(done == 1, id, attempt)

    def note_saved(self, id: str, attempt: int, position: float | None = None) -> None:
        """Note that this attempt has saved its work, so that the next one goes on from it.

        Attempts that were lost before do not count any more; given a position, only if it is greater than all before.

        Raises:
            StaleAttemptError: the attempt has lost the record.
        """
        self._fence(self._run("save", id, attempt, codec.or_empty(position)) == 1, id, attempt)

    def finish(
        self, id: str, attempt: int, status: Status, following: Claim | None = None, **fields: Any
    ) -> RecordT | None:
        """Commit the end of an attempt: a terminal status, and fields such as ``error`` in place of what they were.

        Given ``following``, another record is claimed in the same round trip; it is returned if there is one.

        Raises:
            StaleAttemptError: the attempt has lost the record; nothing was written, and no other taken.
        """
        if not status.terminal:
            raise ValueError(f"{status} is not the end of a record")
        pairs = codec.pairs_of(self._type, fields)
        asked = codec.claim_args(following) if following else ()
        done, *other = self._run("finish", id, attempt, status.value, len(pairs), *pairs, *asked)
        self._fence(done == 1, id, attempt)
        return self._parse(other[0]) if other and other[0] else None

    def release(self, id: str, attempt: int) -> None:
        """Hand an unfinished record back to the queue, as a worker that shuts down does; send its id again.

        Raises:
            StaleAttemptError: the attempt has lost the record.
        """
        self._fence(self._run("release", id, attempt) == 1, id, attempt)

    def lack(self, id: str, attempt: int, worker: str, living: Iterable[str], error: Failure) -> Status:
        """Give up a record whose model its worker can't load: queued for the others, or failed if none of them can.

        Args:
            living: the workers that may take records, this one among them.
            error: why it fails then.

        Raises:
            StaleAttemptError: the attempt has lost the record.
        """
        status = self._run("lack", id, attempt, worker, LACK_SECONDS, codec.json_of(error), *living)
        self._fence(status != 0, id, attempt)
        return Status(status)

    def fail_lacking(self, worker: str, living: Iterable[str]) -> int:
        """Fail queued records whose model this worker could not load, and none of the living ones; gives how many."""
        return int(self._run("fail_lacking", worker, SWEEP_LIMIT, *living))

    def requeue_expired(self) -> list[Queued]:
        """Take records from workers that fell silent; gives those that are queued again and must be sent again."""
        return codec.queued_of(self._run("requeue_expired", self._type.max_lost, gave_up(self._type), SWEEP_LIMIT))

    def fail_late(self) -> int:
        """Fail queued records that have waited longer than their ``max_queue_seconds``; gives how many."""
        return int(self._run("fail_late", TOO_LATE, SWEEP_LIMIT))

    def expired(self) -> list[Expired]:
        """Finished records whose time is over. They are given until they are forgotten; clients don't see them."""
        return [Expired(*member.split(" ", 1)) for member in self._run("expired", SWEEP_LIMIT)]

    def forget(self, records: Sequence[Expired]) -> None:
        """Take expired records out of all lists, once what belongs to them has been deleted."""
        if records:
            self._run("forget", *(f"{id} {owner}" for id, owner in records))

    # ---- inside --------------------------------------------------------------------------------------------------

    def _run(self, script: str, *args: str | float) -> Any:
        return self._scripts.run(script, *args)

    def _found(self, id: str, answer: Sequence[Any]) -> RecordT:
        if not answer[1]:
            raise self.unknown(id)
        return self._parse(answer)

    def _parse(self, answer: Sequence[Any]) -> RecordT:
        return codec.record_of(self._type, answer)

    @staticmethod
    def _fence(held: bool, id: str, attempt: int) -> None:
        if not held:
            raise StaleAttemptError(f"attempt {attempt} does not hold {id} any more")
