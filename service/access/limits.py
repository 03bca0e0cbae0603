"""How many requests a time a caller may send: a moving window for each caller, counted in Redis."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import redis
from limits import RateLimitItem, parse
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

RATE = r"^[1-9]\d{0,5}/([1-9]\d{0,3} )?(second|minute|hour|day)$"
"""Rates: ``60/minute``, ``1000/12 hour``."""


class Window(NamedTuple):
    """Where a caller stands after a request.

    Args:
        allowed: whether the request may be answered.
        quota: requests a window.
        seconds: length of the window.
        remaining: requests that are left in it.
        reset: seconds until one more is allowed.
    """

    allowed: bool
    quota: int
    seconds: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        """The fields of draft-ietf-httpapi-ratelimit-headers, and Retry-After for a request that was refused."""
        fields = {
            "RateLimit-Policy": f'"default";q={self.quota};w={self.seconds}',
            "RateLimit": f'"default";r={self.remaining};t={self.reset}',
        }
        return fields if self.allowed else {**fields, "Retry-After": str(self.reset)}


class RateLimits:
    """Counts requests by caller. Safe to use from many threads and processes; counting needs two round trips.

    Args:
        url: the Redis URL.
        client: a client made by :func:`service.store.connection.connect`, whose connections are used.
    """

    def __init__(self, url: str, client: redis.Redis) -> None:
        storage = RedisStorage(_scheme_of(url), connection_pool=client.connection_pool, key_prefix="coopserve:rate")
        self._limiter = MovingWindowRateLimiter(storage)

    def count(self, caller: str, rate: str) -> Window:
        """Count one request of a caller.

        Args:
            caller: a name of the caller that no other has.
            rate: a rate of the form :data:`RATE`.
        """
        item: RateLimitItem = parse(rate)
        allowed = self._limiter.hit(item, caller)
        stats = self._limiter.get_window_stats(item, caller)
        reset = max(1, math.ceil(stats.reset_time - time.time()))
        return Window(allowed, item.amount, item.get_expiry(), stats.remaining, reset)


def _scheme_of(url: str) -> str:
    """The URL as the library writes it; it only chooses the kind of storage by it, the connections are ours."""
    return url.replace("unix://", "redis+unix://", 1) if url.startswith("unix://") else url
