"""Clients that do everything that clients do, by chance: jobs of all tasks, uploads, cancels, streams and mistakes."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import aiohttp
from aiohttp import web

from service.contract.jobs import TASKS, JobRecord
from service.pictures.samples import SAMPLES

WAIT_SECONDS = 60
ENDS = ("succeeded", "failed", "cancelled")
NOTED = 20
"""How many surprises are described; all are counted."""


@dataclass
class Tally:
    """What was counted.

    Args:
        answers: by HTTP status.
        jobs: by how they ended.
        acts: how often each kind of visit was paid.
        surprises: how many answers or ends were not those that were due.
        notes: the first of them, in words.
        hooks_due: ids of jobs of whose end a webhook was to tell.
        hooks: ids of which one has.
    """

    answers: Counter[int] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    surprises: int = 0
    notes: list[str] = field(default_factory=list)
    hooks_due: set[str] = field(default_factory=set)
    hooks: set[str] = field(default_factory=set)

    def surprise(self, words: str) -> None:
        """Note something that should not have happened."""
        self.surprises += 1
        if len(self.notes) < NOTED:
            self.notes.append(words[:300])


class Receiver:
    """A web server on this machine that takes webhooks.

    Args:
        tally: where they are counted.
        port: where it listens.
    """

    def __init__(self, tally: Tally, port: int) -> None:
        self._tally, self._port = tally, port
        self.url = f"http://127.0.0.1:{port}/hook"
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app, access_log=None)

    async def __aenter__(self) -> Receiver:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self._tally.hooks.add(request.headers["webhook-id"])
        return web.Response(status=204)


class Visitor:
    """One client, who pays one visit after another.

    Args:
        session: connections to the API.
        tally: what all visitors count together.
        hook: the address for webhooks.
        tasks: that the server's models do.
        seed: of all that chance decides.
    """

    def __init__(
        self, session: aiohttp.ClientSession, tally: Tally, hook: str, tasks: Collection[str], seed: int
    ) -> None:
        self._session, self._tally, self._hook, self._tasks = session, tally, hook, tasks
        self._chance = random.Random(seed)

    async def stay(self, until: float) -> None:
        """Pay visits until a time of the monotonic clock."""
        while time.monotonic() < until:
            (act,) = self._chance.choices(list(VISITS), list(VISITS.values()))
            self._tally.acts[act.__name__] += 1
            try:
                await act(self)
            except (aiohttp.ClientError, TimeoutError) as error:
                self._tally.surprise(f"{act.__name__}: {type(error).__name__}: {error}")

    # ---- visits --------------------------------------------------------------------------------------------------

    async def waited(self) -> None:
        """Any task, held until it is done, and its pictures."""
        task, body = self._body()
        status, answer = await self._call(
            "POST", f"/v1/{task}", [200, 202], json=body, headers={"Prefer": f"wait={WAIT_SECONDS}"}
        )
        if status == 202:  # it took longer
            answer = await self._end(answer["id"])
        if status in (200, 202):
            await self._ended(answer)

    async def uploaded(self) -> None:
        """A task whose picture was uploaded before; every other upload is left to expire."""
        task, body = self._body({"translate", "inpaint", "reconstruct"})
        drawn = BytesIO()
        SAMPLES[body["image"]].draw().save(drawn, "PNG")
        form = aiohttp.FormData()
        form.add_field("file", drawn.getvalue(), filename="picture.png")
        status, upload = await self._call("POST", "/v1/images", [201], data=form)
        if status != 201:
            return
        await self._run(task, {**body, "image": upload["id"]})
        if self._chance.random() < 0.5:
            await self._call("DELETE", upload["url"], [204, 404])  # it may have expired

    async def followed(self) -> None:
        """A job with previews whose events are read to the end."""
        record = await self._post(*self._long())
        if record is None:
            return
        text = await self._stream(record["links"]["events"])
        previews = [line for line in text.splitlines() if line.startswith("data:") and '"url"' in line]
        if not text.count("event: status") >= 3:
            self._tally.surprise(f"a stream that ended too soon: {text[-100:]}")
        for line in previews[-1:]:
            await self._call("GET", json.loads(line.removeprefix("data:"))["url"], [200])
        await self._ended(await self._end(record["id"]))

    async def left(self) -> None:
        """A stream that its reader leaves after the first bytes."""
        record = await self._post(*self._long())
        if record is None:
            return
        await self._stream(record["links"]["events"], most=1)
        await self._ended(await self._end(record["id"]))

    async def cancelled(self) -> None:
        """A job that is cancelled at some moment."""
        record = await self._post(*self._long())
        if record is None:
            return
        await asyncio.sleep(self._chance.uniform(0, 0.5))
        await self._call("POST", record["links"]["cancel"], [200])
        await self._ended(await self._end(record["id"]), ["cancelled", "succeeded"])

    async def hooked(self) -> None:
        """A job of whose end a webhook tells."""
        task, body = self._body()
        record = await self._run(task, {**body, "webhook": self._hook})
        if record is not None:
            self._tally.hooks_due.add(record["id"])

    async def repeated(self) -> None:
        """One request sent twice under one of a few keys, which are remembered for long."""
        headers = {"Idempotency-Key": f"key-{self._chance.randrange(20)}"}
        body = {**TASKS["generate"].example, "n": 1, "steps": 2}
        for _ in range(2):
            status, record = await self._call("POST", "/v1/generate", [202], json=body, headers=headers)
            if status == 202:
                await self._end(record["id"])

    async def read(self) -> None:
        """What pages and dashboards ask for."""
        for path in ("/v1/jobs?limit=50", "/v1/models", "/metrics", "/openapi.json", "/docs", "/v2/health/ready"):
            await self._call("GET", path, [200])

    async def mistaken(self) -> None:
        """Requests that must be refused."""
        body = TASKS["generate"].example
        picture = {**TASKS["inpaint"].example, "image": "data:image/png;base64,AAAA"}
        for path, due, content in (
            ("/v1/generate", 400, '{"model": '),
            ("/v1/generate", 422, json.dumps({**body, "n": -1})),
            ("/v1/generate", 404, json.dumps({**body, "model": "nobody"})),
            ("/v1/generate", 413, json.dumps(body) + " " * 2**21),
            ("/v1/inpaint", 422, json.dumps(picture)),
            (f"/v1/jobs/{JobRecord.new_id()}/cancel", 404, ""),
        ):
            headers = {"Content-Type": "application/json"}
            await self._call("POST", path, [due], data=BytesIO(content.encode()), headers=headers)

    # ---- parts of visits -----------------------------------------------------------------------------------------

    def _body(self, tasks: Collection[str] = TASKS.keys()) -> tuple[str, dict[str, Any]]:
        """A task and a request for it: its example, of another seed and length."""
        task = self._chance.choice([task for task in self._tasks if task in tasks])
        body = {**TASKS[task].example, "seed": self._chance.randrange(2**32), "steps": self._chance.randint(1, 20)}
        if task in ("generate", "translate", "inpaint"):
            body["n"] = self._chance.randint(1, 4)
        if "options" in body:
            body["options"] = {"latent_steps": 20}
        return task, body

    def _long(self) -> tuple[str, dict[str, Any]]:
        """A request that takes a while and shows previews."""
        body = {**TASKS["generate"].example, "seed": self._chance.randrange(2**32), "n": self._chance.randint(1, 8)}
        return "generate", {**body, "steps": self._chance.randint(100, 200), "step_size": 0.1, "preview_every": 20}

    async def _run(self, task: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Send a job and see it succeed; None if it was not taken."""
        record = await self._post(task, body)
        if record is not None:
            await self._ended(await self._end(record["id"]))
        return record

    async def _post(self, task: str, body: dict[str, Any]) -> dict[str, Any] | None:
        status, record = await self._call("POST", f"/v1/{task}", [202], json=body)
        return record if status == 202 else None

    async def _end(self, id: str) -> dict[str, Any]:
        """A job's record once it has ended."""
        record: dict[str, Any] = {}
        deadline = time.monotonic() + WAIT_SECONDS
        while record.get("status") not in ENDS and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            _, record = await self._call("GET", f"/v1/jobs/{id}", [200])
        return record

    async def _ended(self, record: dict[str, Any], due: Collection[str] = ("succeeded",)) -> None:
        """Count how a job ended, and fetch its pictures."""
        status = str(record.get("status"))
        self._tally.jobs[status] += 1
        if status not in due:
            self._tally.surprise(f"{record.get('task')} {status}: {record.get('error')}")
        for output in record.get("outputs", []):
            if output["url"]:
                await self._call("GET", output["url"], [200])

    async def _stream(self, path: str, most: int | None = None) -> str:
        """The text of a stream of events, or as much as came when the reader had enough."""
        text = b""
        async with self._session.get(path) as reply:
            self._tally.answers[reply.status] += 1
            async for piece in reply.content.iter_any():
                text += piece
                if most is not None and len(text) >= most:
                    break
        return text.decode()

    async def _call(self, method: str, path: str, due: Collection[int], **options: Any) -> tuple[int, Any]:
        """Status and content of an answer; the content of JSON is read."""
        async with self._session.request(method, path, **options) as reply:
            content = await reply.read()
        self._tally.answers[reply.status] += 1
        if reply.status not in due:
            self._tally.surprise(f"{method} {path[:60]}: {reply.status} {content[:150]!r}, not {due}")
        return reply.status, json.loads(content) if reply.content_type.endswith("json") else content


VISITS: dict[Callable[[Visitor], Awaitable[None]], int] = {
    Visitor.waited: 8,
    Visitor.uploaded: 3,
    Visitor.followed: 2,
    Visitor.left: 2,
    Visitor.cancelled: 3,
    Visitor.hooked: 2,
    Visitor.repeated: 1,
    Visitor.read: 1,
    Visitor.mistaken: 1,
}
"""The visits, and how often each is paid in comparison."""


async def visit(
    address: str, hook_port: int, tasks: Collection[str], tally: Tally, clients: int, seconds: float
) -> None:
    """Let so many clients visit for so long; then wait for webhooks that are still to come.

    Args:
        address: of the server.
        hook_port: where webhooks are taken; the server must allow it.
        tasks: that the server's models do.
        tally: where all is counted.
        clients: how many there are at a time.
        seconds: how long they go on.
    """
    timeout = aiohttp.ClientTimeout(total=2 * WAIT_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        Receiver(tally, hook_port) as receiver,
        aiohttp.ClientSession(address, connector=connector, timeout=timeout) as session,
    ):
        until = time.monotonic() + seconds
        visitors = [Visitor(session, tally, receiver.url, tasks, seed) for seed in range(clients)]
        await asyncio.gather(*(visitor.stay(until) for visitor in visitors))
        deadline = time.monotonic() + WAIT_SECONDS
        while tally.hooks_due - tally.hooks and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
