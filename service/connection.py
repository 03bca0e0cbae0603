"""The connection to Redis or Valkey that the record store and its neighbours share."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_CONNECTIONS = 2048  # one a thread; the threads are bounded elsewhere


def connect(url: str) -> redis.Redis:
    """A client for the store: text answers, short timeouts, many threads."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=5.0,
        socket_connect_timeout=2.0,
        socket_keepalive=True,
        # Once more on a new connection: after a restart of the database every pooled connection is stale.
        retry=Retry(NoBackoff(), 1),
        max_connections=_CONNECTIONS,
    )
