"""Many submissions at a time; what one does is tested with the queue of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis

from service.contract.jobs import JobRecord
from service.store import connection
from service.store.store import RecordStore
from service.store.submission import Submissions

T = TypeVar("T")
NewJob = Callable[[], JobRecord]


def with_submissions(redis_url: str, use: Callable[[Submissions[JobRecord]], Awaitable[T]]) -> T:
    async def run() -> T:
        async with connection.connect_async(redis_url) as client:
            return await use(Submissions(client, JobRecord, keep_seconds=60.0))

    return asyncio.run(run())


def test_many_at_once_share_a_few_connections_and_survive_their_loss(
    redis_url: str, client: redis.Redis, jobs: RecordStore[JobRecord], new_job: NewJob
) -> None:
    before = client.info("clients")["connected_clients"]

    async def use(submissions: Submissions[JobRecord]) -> int:
        async def some() -> None:
            assert all(
                created for _, created in await asyncio.gather(*(submissions.submit(new_job()) for _ in range(300)))
            )

        await some()
        connected: int = client.info("clients")["connected_clients"]
        client.client_kill_filter(_type="normal", skipme=True)
        await some()
        return connected

    assert with_submissions(redis_url, use) - before <= 64
    assert jobs.depth() == 600
