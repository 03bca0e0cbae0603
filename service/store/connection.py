"""The connection to Redis or Valkey that the record store and its neighbours share."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.retry import Retry

_OPTIONS: dict[str, Any] = {
    "decode_responses": True,
    "socket_timeout": 5.0,
    "socket_connect_timeout": 2.0,
    "socket_keepalive": True,
    "max_connections": 2048,  # one a thread or a call; both are bounded elsewhere
}
_RETRIES = 1
"""Once more on a new connection: after a restart of the database every pooled connection is stale."""


def connect(url: str) -> redis.Redis:
    """A client for the store: text answers, short timeouts, many threads."""
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), _RETRIES), **_OPTIONS)


def connect_async(url: str) -> redis.asyncio.Redis:
    """The same for calls from an event loop."""
    return redis.asyncio.Redis.from_url(url, retry=redis.asyncio.retry.Retry(NoBackoff(), _RETRIES), **_OPTIONS)
