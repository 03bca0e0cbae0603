"""What a worker that can't go on says last."""

from __future__ import annotations

import logging

from redis import RedisError

from service.store.presence import Presence

log = logging.getLogger(__name__)


def tell_failure(presence: Presence, kind: str, reason: str) -> None:
    """Leave the reason where the API's health finds it; without Redis it is in the log alone."""
    try:
        presence.tell_failure(kind, reason)
    except RedisError as error:
        log.debug("why this worker ends could not be said: %s", error)
