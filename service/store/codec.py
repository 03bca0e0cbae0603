"""Records as the store's scripts write and read them: a document from submission, and JSON values that change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic_core import to_json

from service.contract.records import Record
from service.store.types import TOO_LATE, Claim, Queued

RecordT = TypeVar("RecordT", bound=Record)

# Given when it is written, derived when it is read.
_NOT_STORED = {
    *("links", "queue_position", "wait_seconds", "status", "attempt", "owner", "saved_attempt", "context", "inputs"),
    *("created_at", "started_at", "finished_at", "expires_at"),
}


def document_of(record: Record) -> str:
    """The part of a new record that its submitter gives."""
    return record.model_dump_json(exclude=_NOT_STORED)


def record_of(record_type: type[RecordT], answer: Sequence[Any]) -> RecordT:
    """A record from a script's answer: its rank in the queue, names and values in turn, perhaps how long it waits."""
    rank, flat, *wait = answer
    stored = dict(zip(flat[::2], flat[1::2], strict=True))
    fields: dict[str, Any] = json.loads(stored["_document"])
    for name, value in stored.items():
        if name == "status":
            fields[name] = value
        elif not name.startswith("_"):
            fields[name] = json.loads(value)
    fields["queue_position"] = rank if rank >= 0 else None
    fields["wait_seconds"] = float(wait[0]) if wait and wait[0] else None
    fields["owner"], fields["saved_attempt"] = stored.get("_owner"), stored.get("_saved_attempt")
    fields["context"] = json.loads(stored.get("_context") or "{}")
    fields["inputs"] = json.loads(stored.get("_inputs") or "{}")
    return record_type.model_validate(fields)


def announced(record_type: type[RecordT], fields: str) -> RecordT:
    """A record from the announcement of its end: JSON of names and values in turn."""
    return record_of(record_type, (-1, json.loads(fields)))


def pairs_of(record_type: type[Record], fields: Mapping[str, Any]) -> list[str]:
    """Fields to write, as names and JSON values in turn.

    Raises:
        ValueError: records have no such field, or it is not for workers to write.
    """
    if unknown := fields.keys() - record_type.model_fields.keys() | (fields.keys() & _NOT_STORED):
        raise ValueError(f"{record_type.__name__} has no such fields to write: {', '.join(sorted(unknown))}")
    return [part for name, value in fields.items() for part in (name, json_of(value))]


def json_of(value: Any) -> str:
    """JSON without NaN and infinities, which it can't hold: they become null."""
    return to_json(value, inf_nan_mode="null").decode()


def text_or_null(value: Any) -> str | None:
    """A value as JSON text inside of JSON; null stays null."""
    return None if value is None else json_of(value)


def queued_of(flat: Sequence[Any]) -> list[Queued]:
    """Ids and priorities in turn."""
    return [Queued(id, int(priority)) for id, priority in zip(flat[::2], flat[1::2], strict=True)]


def or_empty(value: float | None) -> str | float:
    """A number, or '' for None."""
    return "" if value is None else value


def claim_args(claim: Claim) -> list[str | float]:
    """What the scripts that claim a record are given."""
    return [claim.worker, claim.lease_seconds, TOO_LATE, or_empty(claim.share)]
