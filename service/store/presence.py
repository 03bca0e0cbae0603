"""Which workers are alive: each announces itself again and again, and is forgotten when it falls silent."""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Mapping
from typing import Any

import redis

MEMORY_FIGURE = "training_memory_bytes"
"""The figure of trainers that says how much memory a training may take there."""

_FAILURE_MS = 300_000
"""Longer than a container that ends again and again waits before it is started anew."""


def id_prefix(kind: str) -> str:
    """How the ids of this machine's workers of a kind begin."""
    return f"{kind}-{socket.gethostname()}-"


def new_id(kind: str) -> str:
    """A name for this process that no other has."""
    return f"{id_prefix(kind)}{os.getpid()}-{uuid.uuid4().hex[:6]}"


class Presence:
    """The workers that have announced themselves lately. Safe to use from many threads."""

    def __init__(self, client: redis.Redis, namespace: str = "coopserve") -> None:
        self._client = client
        self._prefix = f"{{{namespace}:workers}}"

    def announce(self, worker_id: str, info: Mapping[str, Any], ttl: float) -> None:
        """Say that a worker lives for the next ``ttl`` seconds.

        ``info`` has ``kind`` (``inference`` or ``training``), ``state`` (``starting``, ``ready`` or ``draining``) and
        figures to show in /metrics, as JSON values.
        """
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(f"{self._prefix}:{worker_id}", json.dumps(info), px=max(1, int(ttl * 1000)))
        pipeline.sadd(self._prefix, worker_id)
        pipeline.execute()

    def tell_failure(self, kind: str, reason: str) -> None:
        """Say why a worker of a kind could not begin, or had to end; known for five minutes."""
        self._client.set(f"{self._prefix}:failure:{kind}", reason, px=_FAILURE_MS)

    def failure(self, kind: str) -> str | None:
        """Why a worker of a kind could not begin, or had to end, within the last minutes; None: none is known of."""
        reason: Any = self._client.get(f"{self._prefix}:failure:{kind}")
        return None if reason is None else str(reason)

    def leave(self, worker_id: str) -> None:
        """Say that a worker has stopped."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.delete(f"{self._prefix}:{worker_id}")
        pipeline.srem(self._prefix, worker_id)
        pipeline.execute()

    def workers(self) -> dict[str, dict[str, Any]]:
        """What each living worker last said of itself, by its id."""
        ids = sorted(str(item) for item in self._client.smembers(self._prefix))
        if not ids:
            return {}
        said: list[Any] = self._client.mget([f"{self._prefix}:{id}" for id in ids])
        if silent := [id for id, text in zip(ids, said, strict=True) if text is None]:
            self._client.srem(self._prefix, *silent)
        return {id: json.loads(text) for id, text in zip(ids, said, strict=True) if text is not None}
