"""Submissions from the event loop do what the store's own do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import redis

from service.contract.errors import IdempotencyError, TooManyError
from service.contract.jobs import Generate, JobRecord
from service.store import connection
from service.store.store import RecordStore
from service.store.submission import Submissions
from service.store.types import Idempotency, QueueLimits

T = TypeVar("T")
NewJob = Callable[[], JobRecord]


def with_submissions(redis_url: str, use: Callable[[Submissions[JobRecord]], Awaitable[T]]) -> T:
    async def run() -> T:
        async with connection.connect_async(redis_url) as client:
            return await use(Submissions(client, JobRecord, keep_seconds=60.0))

    return asyncio.run(run())


def test_a_record_is_stored_as_by_the_store(redis_url: str, jobs: RecordStore[JobRecord], new_job: NewJob) -> None:
    one, other = new_job(), new_job()
    plain, _ = jobs.submit(one, priority=7, queue="toy@1", owner="ann", cost=2.0)
    stored, created = with_submissions(
        redis_url, lambda s: s.submit(other, priority=7, queue="toy@1", owner="ann", cost=2.0)
    )
    assert created
    assert stored == jobs.get(other.id)
    assert stored.queue_position == 1
    same = {"id": "", "created_at": plain.created_at, "queue_position": 0}
    assert stored.model_copy(update=same) == plain.model_copy(update=same)


def test_what_the_store_refuses_is_refused(redis_url: str, jobs: RecordStore[JobRecord], new_job: NewJob) -> None:
    def key(n: int) -> Idempotency:
        return Idempotency("k", Generate(model="toy", n=n))

    async def use(submissions: Submissions[JobRecord]) -> None:
        first, created = await submissions.submit(new_job(), idempotency=key(1))
        again, created_again = await submissions.submit(new_job(), idempotency=key(1))
        assert (created, created_again, again.id) == (True, False, first.id)
        with pytest.raises(IdempotencyError, match="another body"):
            await submissions.submit(new_job(), idempotency=key(2))
        with pytest.raises(TooManyError):
            await submissions.submit(new_job(), limits=QueueLimits(max_queued=1))

    with_submissions(redis_url, use)
    assert jobs.depth() == 1


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
