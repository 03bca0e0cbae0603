"""A web server that takes webhooks and answers as it is told."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A running server.

    Args:
        port: where it listens on 127.0.0.1.
        answers: the statuses of the next answers; 200 when they are used up.
        location: the Location header of all answers.
    """

    port: int
    answers: list[int] = field(default_factory=list)
    location: str | None = None
    _received: queue.Queue[Received] = field(default_factory=queue.Queue)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def next(self, seconds: float = 10.0) -> Received:
        """The next request, which may still have to come."""
        return self._received.get(timeout=seconds)

    @property
    def waiting(self) -> int:
        """How many requests have come that nobody has looked at."""
        return self._received.qsize()

    def take(self, received: Received) -> int:
        """Note a request; gives the status of its answer."""
        self._received.put(received)
        return self.answers.pop(0) if self.answers else 200


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A server on a free port."""
    receivers: list[Receiver] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            (receiver,) = receivers
            self.send_response(receiver.take(Received(self.path, headers, body)))
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receivers.append(Receiver(server.server_address[1]))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receivers[0]
        finally:
            server.shutdown()
            thread.join()
