"""All parts on one machine: the database, the API, an inference worker and a trainer, watched by one process."""

from __future__ import annotations

import fcntl
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO

import click
import httpx

from coopserve.configured import address_of
from coopserve.database import Database
from coopserve.parts import STOP_SECONDS, Part, StartError
from service.settings import Settings

_LOCK_SECONDS = 5.0


class Supervisor:
    """Starts the parts, restarts one that dies, stops all of them together.

    Args:
        settings: of the whole; a database is started if it names no Redis.
        trainer: start a training worker, too.
        repair: mend the files of its database first.
    """

    def __init__(self, settings: Settings, *, trainer: bool = True, repair: bool = False) -> None:
        self._settings, self._trainer, self._repair = settings, trainer, repair
        self._parts: list[Part] = []
        self._stopping = False
        self._lock: IO[str] | None = None

    def run(self, announce: Callable[[str], None]) -> None:
        """Run until SIGINT or SIGTERM.

        Raises:
            StartError: the port or the data directory is taken, or the database does not start.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._claim()
        try:
            environment = {**_environment(self._settings), "COOPSERVE_REDIS_URL": self._database()}
            self._start_parts(environment)
            self._watch(announce)
        finally:
            self._stop()

    def _on_signal(self, *_: object) -> None:
        self._stopping = True

    def _claim(self) -> None:
        """Fail early, with a clear message, where two servers would share a port or a data directory."""
        settings = self._settings
        try:
            found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            with socket.socket(found[0][0]) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(found[0][4])
        except OSError as error:
            reason = error.strerror or str(error)
            raise StartError(f"can't listen on {settings.host}:{settings.port} ({reason}); try --port") from None
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = (settings.data_dir / ".lock").open("w")
        except OSError as error:
            reason = error.strerror or str(error)
            raise StartError(f"can't write to {settings.data_dir} ({reason}); try --data-dir") from None
        self._take_lock(self._lock)

    def _take_lock(self, lock: IO[str]) -> None:
        """Take the lock of the data directory. The database holds it as well: that of a server that was killed ends in
        a moment, and nobody else may use its files before it has.
        """
        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() > end or self._stopping:
                    message = f"another server, or its database, uses {self._settings.data_dir}; try --data-dir"
                    raise StartError(message) from None
                time.sleep(0.1)

    def _database(self) -> str:
        """The URL of the Redis to use; starts the bundled server if none is configured."""
        if self._settings.redis_url:
            return self._settings.redis_url
        assert self._lock is not None
        database = Database(self._settings.data_dir, self._lock.fileno())
        if self._repair:
            click.echo(database.repair(), err=True)
        self._parts.append(database.part)
        return database.start(lambda: self._stopping)

    def _start_parts(self, environment: Mapping[str, str]) -> None:
        # The worker first: importing torch takes the longest. -P: a folder `models` in the current directory must not
        # be imported in place of ours.
        commands = {"worker": 0, **({"trainer": 10} if self._trainer else {}), "api": 0}
        for name, nice in commands.items():
            own = {"TMPDIR": environment["COOPSERVE_DATA_DIR"]} if name == "api" else {}  # uploads may be large
            part = Part(f"the {name}", [sys.executable, "-P", "-m", "coopserve", name], {**environment, **own}, nice)
            part.start()
            self._parts.append(part)

    def _watch(self, announce: Callable[[str], None]) -> None:
        ready, address = False, address_of(self._settings)
        with httpx.Client(base_url=address, timeout=1.0) as http:  # to make one takes longer than to ask
            while not self._stopping:
                if not ready and _is_ready(http):
                    ready = True
                    announce(address)
                for part in self._parts:
                    part.restart_if_dead()
                time.sleep(0.1)

    def _stop(self) -> None:
        """Stop the API first, then the workers together, the database last."""
        workers = [part for part in self._parts if part.name in ("the worker", "the trainer")]
        seconds = STOP_SECONDS + self._settings.drain_seconds
        for parts in ([p for p in self._parts if p.name == "the api"], workers, self._parts):
            for part in parts:
                part.ask_to_end()
            for part in parts:
                part.wait(seconds)
        if self._lock:
            self._lock.close()


def _environment(settings: Settings) -> dict[str, str]:
    """The settings as the environment variables of the parts."""
    values = settings.model_dump(mode="json", exclude_none=True)
    values["data_dir"] = str(settings.data_dir.resolve())
    return {f"COOPSERVE_{name.upper()}": str(value) for name, value in values.items()}


def _is_ready(http: httpx.Client) -> bool:
    try:
        return http.get("/v2/health/ready").status_code == 200
    except httpx.HTTPError:
        return False
