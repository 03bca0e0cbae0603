"""The load: a process of its own that sends jobs to one server and times them. It shares the machine with the server,
so it is a light one: connections are kept alive, and nothing is computed while jobs run.

A :class:`Plan` comes in as JSON on standard input, a :class:`Result` goes out as JSON on standard output.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import aiohttp
import uvloop
from pydantic import BaseModel

WAIT_SECONDS = 600
"""Longest time that a job may take."""

_PNG = b"\x89PNG\r\n\x1a\n"


class Plan(BaseModel):
    """What to send.

    Args:
        server: which of the two servers it is.
        address: where it is, e.g. ``http://127.0.0.1:8000``.
        bodies: the requests, in order.
        times: seconds after the start at which each is sent, whether or not earlier ones have been answered; None
            sends the next one when a client has its answer.
        clients: how many wait for an answer at a time; only without times.
        download: also fetch the images of a job (the other server's answer holds them anyway).
    """

    server: Literal["coopserve", "litserve"]
    address: str
    bodies: list[dict[str, Any]]
    times: list[float] | None = None
    clients: int = 1
    download: bool = False


class Timing(BaseModel):
    """Seconds that one job took.

    Args:
        total: from when it was due to be sent to when its result was there.
        queued: from accepted to started, by the job's record; 0 if the server tells nothing of the kind.
        worked: from started to finished, likewise.
    """

    total: float
    queued: float = 0.0
    worked: float = 0.0


class Result(BaseModel):
    """What came of a plan: the seconds from the start to the last result, and the timing of each job."""

    seconds: float
    timings: list[Timing]


class LoadError(Exception):
    """A job did not succeed, so the figures would mean nothing."""


def load(plan: Plan) -> Result:
    """Carry out a plan in another process.

    Raises:
        LoadError: a job did not succeed.
    """
    command = [sys.executable, "-m", "benchmarks.client"]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, input=plan.model_dump_json(), capture_output=True, text=True, cwd=root, check=False)
    if done.returncode:
        raise LoadError(done.stderr.strip() or f"the client ended with status {done.returncode}")
    return Result.model_validate_json(done.stdout)


async def _coopserve(session: aiohttp.ClientSession, body: dict[str, Any], download: bool) -> Timing:
    prefer = {"Prefer": f"wait={WAIT_SECONDS}"}
    async with session.post("/v1/generate", json=body, headers=prefer) as reply:
        record = await reply.json(content_type=None)
    if reply.status != 200 or record["status"] != "succeeded":
        raise LoadError(f"coopserve answered {reply.status}: {str(record)[:500]}")
    for output in record["outputs"] if download else ():
        async with session.get(output["url"]) as image:
            if image.status != 200 or not (await image.read()).startswith(_PNG):
                raise LoadError(f"coopserve answered {image.status} for {output['url']}")
    created, started, finished = (
        datetime.fromisoformat(record[name]).timestamp() for name in ("created_at", "started_at", "finished_at")
    )
    return Timing(total=0.0, queued=started - created, worked=finished - started)


async def _litserve(session: aiohttp.ClientSession, body: dict[str, Any], download: bool) -> Timing:
    del download
    async with session.post("/predict", json=body) as reply:
        answer = await reply.json(content_type=None)
    if reply.status != 200 or not b64decode(answer["png"]).startswith(_PNG):
        raise LoadError(f"LitServe answered {reply.status}: {str(answer)[:500]}")
    return Timing(total=0.0)


_SERVERS: dict[str, Callable[[aiohttp.ClientSession, dict[str, Any], bool], Awaitable[Timing]]] = {
    "coopserve": _coopserve,
    "litserve": _litserve,
}


async def _send(session: aiohttp.ClientSession, plan: Plan, body: dict[str, Any], due: float) -> Timing:
    timing = await _SERVERS[plan.server](session, body, plan.download)
    return timing.model_copy(update={"total": time.perf_counter() - due})


async def _at_their_times(session: aiohttp.ClientSession, plan: Plan, times: list[float]) -> list[Timing]:
    """Latency counts from when a job was due: a client that is late itself must not hide a wait."""
    begin = time.perf_counter()

    async def one(body: dict[str, Any], due: float) -> Timing:
        await asyncio.sleep(due - time.perf_counter())
        return await _send(session, plan, body, due)

    return await asyncio.gather(*(one(body, begin + t) for body, t in zip(plan.bodies, times, strict=True)))


async def _in_turn(session: aiohttp.ClientSession, plan: Plan) -> list[Timing]:
    """Every client takes the next job when it has the result of its last one."""
    waiting: Iterator[dict[str, Any]] = iter(plan.bodies)
    timings: list[Timing] = []

    async def one() -> None:
        for body in waiting:
            timings.append(await _send(session, plan, body, time.perf_counter()))

    await asyncio.gather(*(one() for _ in range(plan.clients)))
    return timings


async def _carry_out(plan: Plan) -> Result:
    timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
    async with aiohttp.ClientSession(
        plan.address, connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60), timeout=timeout
    ) as session:
        begin = time.perf_counter()
        timings = await (_in_turn(session, plan) if plan.times is None else _at_their_times(session, plan, plan.times))
        return Result(seconds=time.perf_counter() - begin, timings=timings)


def main() -> None:
    """Read a plan, carry it out, write the result."""
    plan = Plan.model_validate_json(sys.stdin.read())
    try:
        result = uvloop.run(_carry_out(plan))
    except (LoadError, aiohttp.ClientError, TimeoutError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.write(result.model_dump_json())


if __name__ == "__main__":
    main()
