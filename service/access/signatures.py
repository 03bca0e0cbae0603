"""Signed addresses: for a time, the pictures of a job or training need no API key.

One signature holds for all pictures of one record. It is a MAC of the record's address and the end of its time, by a
secret that the database makes once for all processes of the API.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from functools import cached_property, partial
from urllib.parse import parse_qs

import redis

_PICTURES = re.compile(
    r"(/v1/(?:jobs|trainings)/[a-z]+_[0-9a-f]+)/(?:images|surfaces|inputs|previews|samples|figure)(?:/|\?|$)"
)


class Signatures:
    """Signs and checks addresses. Safe to use from many threads.

    Args:
        client: a client made by :func:`service.store.connection.connect`.
        namespace: what all keys begin with.
        clock: tells the time in seconds since 1970.
    """

    def __init__(
        self, client: redis.Redis, namespace: str = "coopserve", clock: Callable[[], float] = time.time
    ) -> None:
        self._client, self._key, self._clock = client, f"{{{namespace}}}:signing", clock

    @cached_property
    def _secret(self) -> bytes:
        self._client.set(self._key, secrets.token_hex(32), nx=True)
        return str(self._client.get(self._key)).encode()

    def signer(self, seconds: int | None) -> Callable[[str], str] | None:
        """What signs addresses of pictures, and leaves all others; None: nothing is to be signed.

        Args:
            seconds: how long they hold. The end is rounded up, so that the same picture has the same address for a
                while, and a browser's copy of it is of use.
        """
        if seconds is None:
            return None
        span = max(1, seconds // 4)
        return partial(self._signed, -(-int(self._clock() + seconds) // span) * span)

    def holds(self, path: str, query: str) -> bool:
        """Whether an address is that of a picture, signed, and within its time."""
        found, given = _PICTURES.match(path), parse_qs(query)
        expires, signature = given.get("expires", [""])[-1], given.get("signature", [""])[-1]
        if found is None or not re.fullmatch(r"\d{1,12}", expires) or int(expires) < self._clock():
            return False
        return hmac.compare_digest(self._mac(found[1], int(expires)), signature)

    def _signed(self, expires: int, address: str) -> str:
        found = _PICTURES.match(address)
        if found is None:
            return address
        mark = "&" if "?" in address else "?"
        return f"{address}{mark}expires={expires}&signature={self._mac(found[1], expires)}"

    def _mac(self, record: str, expires: int) -> str:
        return hmac.new(self._secret, f"{record} {expires}".encode(), hashlib.sha256).hexdigest()[:40]
