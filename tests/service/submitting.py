"""A store that code without an event loop can submit to, by the one path of the API."""

from __future__ import annotations

import asyncio
from typing import Unpack, final

import redis

from service.store.codec import RecordT
from service.store.connection import connect_async
from service.store.store import RecordStore
from service.store.submission import KEEP_SECONDS, Submissions
from service.store.types import Terms


class SubmittingStore(RecordStore[RecordT]):
    """A record store with a way in. Arguments are those of the store."""

    def __init__(
        self,
        client: redis.Redis,
        record_type: type[RecordT],
        namespace: str = "coopserve",
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        super().__init__(client, record_type, namespace)
        where = client.get_connection_kwargs()
        self._url = f"redis://{where['host']}:{where['port']}/{where['db']}"
        self._terms = (record_type, keep_seconds, namespace)

    @final
    def submit(self, record: RecordT, **terms: Unpack[Terms]) -> tuple[RecordT, bool]:
        """As :meth:`.Submissions.submit`."""

        async def submit() -> tuple[RecordT, bool]:
            async with connect_async(self._url) as client:
                return await Submissions(client, *self._terms).submit(record, **terms)

        return asyncio.run(submit())
