"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar, final

import httpx

from coopserve.client.calls import Answer, Call, Calls, Pause, Record, Send, pause_of, refusal, unreachable
from coopserve.client.events import Decoder
from coopserve.client.results import Event, Result, Tracked

T = TypeVar("T")


@final
class Client:
    """A client of one server. Safe to use from many threads; close it, or use it in a ``with`` statement.

    Args:
        url: of the server.
        key: an API key, if the server asks for one. It is sent to this server alone.
        timeout: seconds for which the server may be silent.
        retries: how often a request is sent again that may succeed later. A job is made once all the same.
        transport: in place of the network.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.calls = Calls(url, key, retries)
        self._timeout = timeout
        self._http = httpx.Client(timeout=timeout, transport=transport, follow_redirects=False)

    def run(self, task: str, *, timeout: float | None = None, **fields: Any) -> Result:
        """What a task makes.

        Args:
            task: such as ``generate``.
            timeout: seconds to wait for it; None: as long as it takes.
            fields: of the task, as docs/api.md has them. A picture may be a ``pathlib.Path``, bytes, a PIL image, the
                id of an upload, or a data URI.

        Raises:
            ApiError: the server refuses it.
            JobError: the job has failed, or was cancelled.
            WaitTimeoutError: it takes longer than ``timeout``.
        """
        return self.do(self.calls.run(task, fields, timeout))

    def submit(self, task: str, **fields: Any) -> Job:
        """Queue a job; arguments are those of :meth:`run`."""
        return Job(self, self.do(self.calls.submit(f"/v1/{task}", fields)))

    def train(self, **fields: Any) -> Training:
        """Queue a training; its fields are in docs/training.md."""
        return Training(self, self.do(self.calls.submit("/v1/trainings", fields)))

    def job(self, id: str) -> Job:
        """A job that exists."""
        return Job(self, self.do(self.calls.get(f"/v1/jobs/{id}")))

    def training(self, id: str) -> Training:
        """A training that exists."""
        return Training(self, self.do(self.calls.get(f"/v1/trainings/{id}")))

    def jobs(self, status: str | None = None) -> Iterator[Job]:
        """All jobs, newest first."""
        for record in self._listed(Job.kind, status):
            yield Job(self, record)

    def trainings(self, status: str | None = None) -> Iterator[Training]:
        """All trainings, newest first."""
        for record in self._listed(Training.kind, status):
            yield Training(self, record)

    def upload(self, picture: Any) -> str:
        """Send a picture (a path, bytes or a PIL image); gives its id, which every task takes."""
        return str(self.do(self.calls.upload("/v1/images", picture, again=True))["id"])

    def upload_data(self, archive: Any, name: str) -> Record:
        """Send a data set, a zip file or npz archive, for trainings; gives what is in it."""
        return self.do(self.calls.upload("/v1/datasets", archive, again=False, name=name))

    def models(self) -> list[Record]:
        """All models that can be served, with their cards."""
        return list(self.do(self.calls.get("/v1/models"))["items"])

    def model(self, name: str) -> Record:
        """The card of a model."""
        card: Record = self.do(self.calls.get(f"/v1/models/{name}"))
        return card

    def file(self, link: str) -> bytes:
        """The file at an address in an answer or event, such as a preview."""
        return self.do(self.calls.file(link))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def do(self, call: Call[T]) -> T:
        """Send what a call asks for until it has its result."""
        answer: Answer = None
        while True:
            try:
                step = call.send(answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            answer = self._done(step)

    def follow(self, path: str, after: str | None) -> Iterator[Event]:
        """The events of a job or training to their end; a stream that breaks off is taken up again."""
        failures = 0
        while True:
            send = self.calls.follow(path, after)
            try:
                with self._http.stream(send.method, send.url, headers=send.headers, timeout=send.wait) as answer:
                    if answer.status_code == 204:
                        return
                    if not answer.is_success:
                        answer.read()
                        raise refusal(answer)
                    decoder = Decoder()
                    for line in answer.iter_lines():
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
            time.sleep(pause_of(failures))

    def _listed(self, path: str, status: str | None) -> Iterator[Record]:
        cursor = None
        while True:
            page = self.do(self.calls.get(path, status=status, cursor=cursor, limit=100))
            yield from page["items"]
            if (cursor := page["next"]) is None:
                return

    def _done(self, step: Send | Pause) -> Answer:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return self._http.request(**step.request(self._timeout))
        except httpx.TransportError as error:
            return error


class _Run(Tracked):
    """What jobs and trainings share."""

    def __init__(self, client: Client, record: Mapping[str, Any]) -> None:
        super().__init__(record)
        self._client = client

    def refresh(self) -> Self:
        """Ask the server for the record."""
        self.record = self._client.do(self._client.calls.get(self.path))
        return self

    def cancel(self) -> Self:
        """Have it stop; one that has ended stays as it is."""
        self.record = self._client.do(self._client.calls.cancel(self.path))
        return self

    def events(self, after: str | None = None) -> Iterator[Event]:
        """Its events as they come, to its end.

        Args:
            after: the id of the last event that is known already.
        """
        return self._client.follow(self.path, after)


@final
class Job(_Run):
    """A job."""

    kind: ClassVar[str] = "/v1/jobs"

    def result(self, timeout: float | None = None) -> Result:
        """What it has made, once it has succeeded; errors are those of :meth:`Client.run`."""
        result = self._client.do(self._client.calls.result(self.path, timeout))
        self.record = result.record
        return result


@final
class Training(_Run):
    """A training."""

    kind: ClassVar[str] = "/v1/trainings"

    def result(self, timeout: float | None = None) -> str:
        """The model, as name@version, once it has succeeded; errors are those of :meth:`Client.run`."""
        self.record = self._client.do(self._client.calls.ended(self.path, timeout))
        return str(self.record["model"])
