"""What is stored, counted: which pictures are kept and for whom, and how many bytes everybody and each owner has.

A **holder** (a job or an upload) holds pictures by the hashes of their files. An owner's equal pictures are kept once,
and deleted when the last holder lets go. A job that never arrived is a holder whose time runs out. Bytes of records and
of what jobs make are counted by the scripts that submit, finish and forget records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import redis

from service.contract.errors import StorageError
from service.contract.jobs import JobRecord
from service.store.codec import or_empty
from service.store.scripts import Scripts
from service.store.types import StorageLimits

SWEEP_LIMIT = 100


class Held(NamedTuple):
    """A picture that is held.

    Args:
        owner: whose it is; '' = nobody's.
        name: under which it is kept.
        bytes: of the file.
        until: when its holder lets go of it, in seconds of the epoch; None: not by time.
    """

    owner: str
    name: str
    bytes: int
    until: float | None


class Stored(NamedTuple):
    """Bytes that are stored."""

    all: int
    records: int
    owner: int


class Ledger:
    """The account of what is stored. Safe to use from many threads.

    Args:
        client: a client made by :func:`service.store.connection.connect`.
        namespace: what all keys begin with.
    """

    def __init__(self, client: redis.Redis, namespace: str = "coopserve") -> None:
        self._scripts = Scripts(client, JobRecord, namespace)

    def hold(
        self, holder: str, owner: str | None, pictures: Mapping[str, int], seconds: float, limits: StorageLimits
    ) -> dict[str, str]:
        """Hold pictures; gives the name of each by its hash. Whoever holds one must see to it that it is there.

        Args:
            holder: id of the job or upload.
            owner: whose bytes they are.
            pictures: bytes by hash.
            seconds: how long they are held; a job that is accepted in time holds them until it is forgotten.
            limits: what refuses them.

        Raises:
            StorageError: there is no room.
        """
        flat = [part for pair in pictures.items() for part in pair]
        first, rest = self._scripts.run(
            "hold", holder, owner or "", or_empty(limits.owner), or_empty(limits.all), seconds, *flat
        )
        if first != "held":
            raise StorageError(first, int(rest))
        return dict(zip(pictures, rest, strict=True))

    def held(self, holder: str) -> list[Held]:
        """What a holder holds; nothing if there is no such holder."""
        until, members = self._scripts.run("held", holder)
        parts = [member.split(" ") for member in members]
        return [Held(owner, name, int(size), float(until) if until else None) for owner, name, size in parts]

    def let_go(self, holder: str) -> None:
        """End a hold; nothing happens if there is none."""
        self._scripts.run("let_go", holder)

    def litter(self) -> list[str]:
        """Names of some pictures that nobody holds. They are given until they are :meth:`swept`."""
        names: list[str] = self._scripts.run("litter", SWEEP_LIMIT)
        return names

    def swept(self, names: list[str]) -> None:
        """Strike out litter that has been deleted."""
        if names:
            self._scripts.run("swept", *names)

    def stored(self, owner: str | None = None) -> Stored:
        """How much is stored in all, and by an owner."""
        return Stored(*map(int, self._scripts.run("stored", owner or "")))
