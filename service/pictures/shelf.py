"""Pictures on disk, each file kept once for its owner however many jobs and uploads hold it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from service.pictures.blobs import Blobs
from service.pictures.places import shelf_key
from service.pictures.room import Room
from service.store.ledger import Held, Ledger
from service.store.types import StorageLimits


class Shelf:
    """Puts pictures where they are found by name. Safe to use from many threads and processes.

    Args:
        blobs: where the files are.
        ledger: who holds which.
        limits: what may be stored.
        room: of the disk.
    """

    def __init__(self, blobs: Blobs, ledger: Ledger, limits: StorageLimits, room: Room) -> None:
        self._blobs, self._ledger, self._limits, self._room = blobs, ledger, limits, room

    def keep(self, holder: str, owner: str | None, files: Mapping[str, bytes], seconds: float) -> dict[str, str]:
        """Keep files for a holder; gives the name under which each is kept.

        Args:
            holder: id of the job or upload.
            owner: whose they are.
            files: by a word of the caller's.
            seconds: how long, unless the job is accepted.

        Raises:
            StorageError: there is no room.
            OSError: they can't be written; the holder holds nothing then.
        """
        hashes = {word: hashlib.sha256(data).hexdigest() for word, data in files.items()}
        data_of = {hashes[word]: data for word, data in files.items()}
        sizes = {hash: len(data) for hash, data in data_of.items()}
        self._room.check(sum(sizes.values()))
        names = self._ledger.hold(holder, owner, sizes, seconds, self._limits)
        try:
            for hash, name in names.items():
                if not self._blobs.exists(shelf_key(name)):
                    self._blobs.put(shelf_key(name), data_of[hash])
        except OSError:
            self._ledger.let_go(holder)
            raise
        return {word: names[hash] for word, hash in hashes.items()}

    def held(self, holder: str) -> list[Held]:
        """What a holder holds."""
        return self._ledger.held(holder)

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of the file of a name; raises as :meth:`get` does."""
        return self._blobs.head(shelf_key(name), size)

    def get(self, name: str) -> bytes:
        """The file of a name.

        Raises:
            FileNotFoundError: there is none.
        """
        return self._blobs.get(shelf_key(name))

    def let_go(self, holder: str) -> None:
        """End a hold, and delete what nobody else holds."""
        self._ledger.let_go(holder)
        self.sweep()

    def sweep(self) -> None:
        """Delete some of what nobody holds any more, and what was held too long."""
        names = self._ledger.litter()
        for name in names:
            self._blobs.delete_prefix(shelf_key(name))
        self._ledger.swept(names)
