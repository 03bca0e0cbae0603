"""What runs beside the API ends with it."""

from __future__ import annotations

import asyncio

import pytest

from service.http.background import beside
from service.store.events import Finished, connect


def test_work_that_misses_a_cancellation_ends_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    missed = []

    async def deaf() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            missed.append(1)
        await asyncio.sleep(60)

    async def failing() -> None:
        raise ValueError("for the log")

    async def main() -> None:
        async with asyncio.timeout(5), beside(deaf(), failing()):
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert missed == [1]
    assert "for the log" in caplog.text


def test_announcements_reach_those_who_wait_with_the_record_or_without(redis_url: str) -> None:
    async def main() -> list[str | None]:
        client = connect(redis_url)
        finished = Finished(client, "channel")
        with finished.watch("job_1") as watch:
            async with asyncio.timeout(10), beside(finished.run()):
                subscribed = await watch.wait(5)  # something may have been missed before
                await client.publish("channel", "job_2 [2]")
                await client.publish("channel", "job_1 [1]")
                told = await watch.wait(5)
                await client.publish("channel", "job_1")  # as workers of an earlier version do
                alone = await watch.wait(5)
                nothing = await watch.wait(0.01)
        await client.aclose()
        return [subscribed, told, alone, nothing]

    assert asyncio.run(main()) == [None, "[1]", None, None]


def test_the_listener_ends_whenever_it_is_told_to(redis_url: str) -> None:
    """A moment after the start it subscribes; a cancellation in just that moment was once lost, and stopping hung."""

    async def main() -> None:
        for tenth_of_ms in range(60):
            client = connect(redis_url)
            async with asyncio.timeout(5), beside(Finished(client, "channel").run()):
                await asyncio.sleep(tenth_of_ms * 1e-4)
            await client.aclose()

    asyncio.run(main())
