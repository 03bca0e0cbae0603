"""API keys: made by an administrator, shown once, kept as a hash.

A key is ``csk_ID_SECRET``. ID finds it in the database, SECRET proves it. The secret has 256 random bits, so its plain
SHA-256 is enough: there is nothing to guess, which is what slow password hashes guard against.

A key speaks for an **owner**, and what is made with it is the owner's. Several keys may name the same owner: add a new
one, change over, revoke the old one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import redis
from pydantic import BaseModel, ConfigDict, Field

from service.access.limits import RATE
from service.access.signing import new_webhook_secret
from service.contract.records import now

OWNER = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""Names of owners: letters, digits, dots, hyphens and underscores, at most 64."""

_PREFIX = "csk"
_ID_BYTES, _SECRET_BYTES = 6, 32
_TOKEN = re.compile(rf"{_PREFIX}_(?P<id>[0-9a-f]{{{2 * _ID_BYTES}}})_(?P<secret>[0-9a-f]{{{2 * _SECRET_BYTES}}})")


class Scope(StrEnum):
    """What a key may be used for."""

    USE = "use"
    """Jobs, images and reading models."""
    TRAIN = "train"
    """Trainings."""
    ADMIN = "admin"
    """Everything, and everybody's: also metrics, and loading and unloading models."""


class ApiKey(BaseModel):
    """What the database holds of a key, apart from the hash of its secret."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="The public part of the key.")
    owner: str = Field(pattern=OWNER, description="For whom it speaks.")
    scopes: frozenset[Scope] = Field(min_length=1, description="What it may be used for.")
    created_at: datetime = Field(description="When it was made (UTC).")
    max_active: int | None = Field(None, ge=1, description="Most unfinished jobs; None: as the settings say.")
    max_cost: float | None = Field(
        None, gt=0, description="Most that unfinished jobs may cost; None: as the settings say."
    )
    rate: str | None = Field(
        None, pattern=RATE, description="Requests a time, such as 60/minute; None: as the settings say."
    )
    webhook_secret: str = Field(description="Signs webhooks (whsec_...). It is needed in the clear to sign.")


class NewKey(NamedTuple):
    """A key that has just been made. Its token is shown now and never again."""

    key: ApiKey
    token: str


class Keys:
    """All API keys. Safe to use from many threads.

    Args:
        client: a client made by :func:`service.store.connection.connect`.
        namespace: what all entries begin with in the database.
    """

    def __init__(self, client: redis.Redis, namespace: str = "coopserve") -> None:
        self._client = client
        self._prefix = f"{{{namespace}:keys}}"

    def add(
        self,
        owner: str,
        scopes: frozenset[Scope],
        *,
        max_active: int | None = None,
        max_cost: float | None = None,
        rate: str | None = None,
    ) -> NewKey:
        """Make a key.

        Raises:
            pydantic.ValidationError: the owner's name or a limit can't be used.
        """
        id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
        key = ApiKey(
            id=id,
            owner=owner,
            scopes=scopes,
            created_at=now(),
            max_active=max_active,
            max_cost=max_cost,
            rate=rate,
            webhook_secret=new_webhook_secret(),
        )
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hset(self._place(id), mapping={"digest": _digest(secret), "document": key.model_dump_json()})
        pipeline.sadd(self._prefix, id)
        pipeline.execute()
        return NewKey(key, f"{_PREFIX}_{id}_{secret}")

    def verify(self, token: str) -> ApiKey | None:
        """The key that this token proves; None if there is none. One round trip, or none if it is no token at all."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        digest, document = self._client.hmget(self._place(match["id"]), "digest", "document")
        if document is None or not hmac.compare_digest(str(digest), _digest(match["secret"])):
            return None
        return ApiKey.model_validate_json(document)

    def all(self) -> list[ApiKey]:
        """Every key, by owner and age."""
        ids = sorted(str(id) for id in self._client.smembers(self._prefix))
        pipeline = self._client.pipeline(transaction=False)
        for id in ids:
            pipeline.hget(self._place(id), "document")
        keys = [ApiKey.model_validate_json(document) for document in pipeline.execute() if document is not None]
        return sorted(keys, key=lambda key: (key.owner, key.created_at))

    def webhook_secrets(self, owner: str) -> list[str]:
        """What the owner's webhooks are signed with: one secret a key, so that a receiver can change over as well."""
        return [key.webhook_secret for key in self.all() if key.owner == owner]

    def revoke(self, id: str) -> bool:
        """Remove a key for good; False if there is none with this id. What was made with it stays its owner's."""
        pipeline = self._client.pipeline(transaction=True)
        pipeline.delete(self._place(id))
        pipeline.srem(self._prefix, id)
        removed, _ = pipeline.execute()
        return bool(removed)

    def _place(self, id: str) -> str:
        return f"{self._prefix}:{id}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
