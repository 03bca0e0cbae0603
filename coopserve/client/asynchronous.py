"""The asynchronous client: :mod:`coopserve.client.blocking` for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar, Self, TypeVar, final

import httpx

from coopserve.client.calls import Answer, Call, Calls, Pause, Record, Send, pause_of, refusal, unreachable
from coopserve.client.events import Decoder
from coopserve.client.results import Event, Result, Tracked

T = TypeVar("T")


@final
class AsyncClient:
    """A client of one server, for one event loop; close it, or use it in an ``async with`` statement.

    Arguments, methods and errors are those of :class:`.Client`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.calls = Calls(url, key, retries)
        self._timeout = timeout
        self._http = httpx.AsyncClient(timeout=timeout, transport=transport, follow_redirects=False)

    async def run(self, task: str, *, timeout: float | None = None, **fields: Any) -> Result:
        """What a task makes."""
        return await self.do(self.calls.run(task, fields, timeout))

    async def submit(self, task: str, **fields: Any) -> AsyncJob:
        """Queue a job; arguments are those of :meth:`run`."""
        return AsyncJob(self, await self.do(self.calls.submit(f"/v1/{task}", fields)))

    async def train(self, **fields: Any) -> AsyncTraining:
        """Queue a training; its fields are in docs/training.md."""
        return AsyncTraining(self, await self.do(self.calls.submit("/v1/trainings", fields)))

    async def job(self, id: str) -> AsyncJob:
        """A job that exists."""
        return AsyncJob(self, await self.do(self.calls.get(f"/v1/jobs/{id}")))

    async def training(self, id: str) -> AsyncTraining:
        """A training that exists."""
        return AsyncTraining(self, await self.do(self.calls.get(f"/v1/trainings/{id}")))

    async def jobs(self, status: str | None = None) -> AsyncIterator[AsyncJob]:
        """All jobs, newest first."""
        async for record in self._listed(AsyncJob.kind, status):
            yield AsyncJob(self, record)

    async def trainings(self, status: str | None = None) -> AsyncIterator[AsyncTraining]:
        """All trainings, newest first."""
        async for record in self._listed(AsyncTraining.kind, status):
            yield AsyncTraining(self, record)

    async def upload(self, picture: Any) -> str:
        """Send a picture (a path, bytes or a PIL image); gives its id, which every task takes."""
        return str((await self.do(self.calls.upload("/v1/images", picture, again=True)))["id"])

    async def upload_data(self, archive: Any, name: str) -> Record:
        """Send a data set, a zip file or npz archive, for trainings; gives what is in it."""
        return await self.do(self.calls.upload("/v1/datasets", archive, again=False, name=name))

    async def models(self) -> list[Record]:
        """All models that can be served, with their cards."""
        return list((await self.do(self.calls.get("/v1/models")))["items"])

    async def model(self, name: str) -> Record:
        """The card of a model."""
        card: Record = await self.do(self.calls.get(f"/v1/models/{name}"))
        return card

    async def file(self, link: str) -> bytes:
        """The file at an address in an answer or event, such as a preview."""
        return await self.do(self.calls.file(link))

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def do(self, call: Call[T]) -> T:
        """Send what a call asks for until it has its result."""
        answer: Answer = None
        while True:
            try:
                step = call.send(answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            answer = await self._done(step)

    async def follow(self, path: str, after: str | None) -> AsyncIterator[Event]:
        """The events of a job or training to their end; a stream that breaks off is taken up again."""
        failures = 0
        while True:
            send = self.calls.follow(path, after)
            try:
                async with self._http.stream(send.method, send.url, headers=send.headers, timeout=send.wait) as answer:
                    if answer.status_code == 204:
                        return
                    if not answer.is_success:
                        await answer.aread()
                        raise refusal(answer)
                    decoder = Decoder()
                    async for line in answer.aiter_lines():
                        if event := decoder.event(line):
                            failures, after = 0, event.id or after
                            yield event
                            if event.last:
                                return
                error: Exception = httpx.RemoteProtocolError("the stream of events ended before the job")
            except httpx.TransportError as broken:
                error = broken
            failures += 1
            if failures > self.calls.retries:
                raise unreachable(send, error) from error
            await asyncio.sleep(pause_of(failures))

    async def _listed(self, path: str, status: str | None) -> AsyncIterator[Record]:
        cursor = None
        while True:
            page = await self.do(self.calls.get(path, status=status, cursor=cursor, limit=100))
            for record in page["items"]:
                yield record
            if (cursor := page["next"]) is None:
                return

    async def _done(self, step: Send | Pause) -> Answer:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return await self._http.request(**step.request(self._timeout))
        except httpx.TransportError as error:
            return error


class _Run(Tracked):
    """What jobs and trainings share."""

    def __init__(self, client: AsyncClient, record: Mapping[str, Any]) -> None:
        super().__init__(record)
        self._client = client

    async def refresh(self) -> Self:
        """Ask the server for the record."""
        self.record = await self._client.do(self._client.calls.get(self.path))
        return self

    async def cancel(self) -> Self:
        """Have it stop; one that has ended stays as it is."""
        self.record = await self._client.do(self._client.calls.cancel(self.path))
        return self

    def events(self, after: str | None = None) -> AsyncIterator[Event]:
        """Its events as they come, to its end.

        Args:
            after: the id of the last event that is known already.
        """
        return self._client.follow(self.path, after)


@final
class AsyncJob(_Run):
    """A job."""

    kind: ClassVar[str] = "/v1/jobs"

    async def result(self, timeout: float | None = None) -> Result:
        """What it has made, once it has succeeded; errors are those of :meth:`AsyncClient.run`."""
        result = await self._client.do(self._client.calls.result(self.path, timeout))
        self.record = result.record
        return result


@final
class AsyncTraining(_Run):
    """A training."""

    kind: ClassVar[str] = "/v1/trainings"

    async def result(self, timeout: float | None = None) -> str:
        """The model, as name@version, once it has succeeded; errors are those of :meth:`AsyncClient.run`."""
        self.record = await self._client.do(self._client.calls.ended(self.path, timeout))
        return str(self.record["model"])
