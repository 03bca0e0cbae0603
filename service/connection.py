"""The connection to Redis or Valkey that the record store and its neighbours share."""

from __future__ import annotations

import redis
import redis.asyncio
import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.retry import Retry

_CONNECTIONS = 2048  # one a thread or a call; both are bounded elsewhere
_ANSWER_SECONDS, _CONNECT_SECONDS = 5.0, 2.0
_RETRIES = 1
"""Once more on a new connection: after a restart of the database every pooled connection is stale."""


def connect(url: str) -> redis.Redis:
    """A client for the store: text answers, short timeouts, many threads."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), _RETRIES),
        max_connections=_CONNECTIONS,
    )


def connect_async(url: str) -> redis.asyncio.Redis:
    """The same for calls from an event loop."""
    return redis.asyncio.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_keepalive=True,
        retry=redis.asyncio.retry.Retry(NoBackoff(), _RETRIES),
        max_connections=_CONNECTIONS,
    )
