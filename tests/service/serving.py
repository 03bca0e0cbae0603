"""The real API over HTTP, in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from fastapi import FastAPI

from service.app import create_app
from service.http.server import make_server
from service.settings import Settings


def serving(settings: Settings) -> AbstractContextManager[str]:
    """The API for these settings on a free port; gives its address."""
    return serving_app(create_app(settings))


@contextmanager
def serving_app(app: FastAPI) -> Iterator[str]:
    """The same for an app that is already there."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = make_server(app, app.state.services.settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
