"""The saved chain of one attempt of a job: each attempt writes a file of its own, and the record names the last one.

So an attempt that has lost its job can't spoil what a later one has saved.
"""

from __future__ import annotations

import logging
import threading

from redis import RedisError

from service.contract.errors import StaleAttemptError
from service.contract.jobs import JobRecord
from service.pictures.blobs import Blobs
from service.pictures.places import job_chain
from service.store.store import RecordStore
from workers.chains.chain import Chain, ChainError, decode, encode

log = logging.getLogger(__name__)


class Keeper:
    """Loads, saves and drops the chain of a claimed job. Safe to use from several threads.

    Args:
        store: the records of jobs.
        blobs: where chains go.
        record: the job, as it was claimed.
    """

    def __init__(self, store: RecordStore[JobRecord], blobs: Blobs, record: JobRecord) -> None:
        self._store, self._blobs, self._record = store, blobs, record
        self._lock = threading.Lock()
        self._noted = self._closed = False
        self._weights = ""

    def load(self, weights: str) -> Chain | None:
        """What an earlier attempt has saved; None if there is nothing.

        Args:
            weights: the digest of the weights that go on with it. What is saved from now on will carry it.

        Raises:
            ChainError: it can't be read, or was begun by other weights.
        """
        self._weights = weights
        earlier = self._record.saved_attempt
        if earlier is None:
            return None
        try:
            return decode(self._blobs.get(job_chain(self._record.id, earlier)), weights)
        except OSError as error:
            raise ChainError(f"it can't be read ({error})") from error

    def save(self, chain: Chain) -> None:
        """Save the chain in place of the last one. The job goes on if that fails."""
        record = self._record
        with self._lock:
            if self._closed:
                return
            try:
                self._blobs.put(job_chain(record.id, record.attempt), encode(chain, self._weights))
                if not self._noted:
                    self._store.note_saved(record.id, record.attempt)
                    self._noted = True
                    if record.saved_attempt is not None:
                        self._blobs.delete_prefix(job_chain(record.id, record.saved_attempt))
            except StaleAttemptError:
                self._closed = True
            except (OSError, RedisError) as error:
                log.warning("the chain of %s was not saved: %s", record.id, error)

    def close(self) -> None:
        """Save nothing any more: the job is another attempt's."""
        with self._lock:
            self._closed = True

    def drop(self) -> None:
        """The job has ended: delete what was saved."""
        self.close()
        if self._noted or self._record.saved_attempt is not None:
            try:
                self._blobs.delete_prefix(job_chain(self._record.id))
            except OSError as error:  # it goes when the record expires
                log.warning("the chain of %s was not deleted: %s", self._record.id, error)
