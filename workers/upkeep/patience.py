"""Calls to the store that must not be lost when it does not answer for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from redis import RedisError

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2

T = TypeVar("T")


def patiently(call: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """Call again and again until the store answers.

    Raises:
        RedisError: it has not answered for so many seconds.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except RedisError as error:
            if time.monotonic() >= end:
                raise
            log.warning("the store does not answer, trying again: %s", error)
            time.sleep(_PAUSE_SECONDS)
