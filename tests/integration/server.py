"""``coopserve serve`` as the process that its users start, and what becomes of its processes when it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
QUICK = {
    "COOPSERVE_TORCH_THREADS": "1",
    "COOPSERVE_LEASE_SECONDS": "1.5",
    "COOPSERVE_HEARTBEAT_SECONDS": "0.2",
    "COOPSERVE_DEVICE": "cpu",
}
"""Settings of every server here: the dead are noticed soon, and cores are left to the other processes."""


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_command(port: int, data_dir: Path) -> list[str]:
    """The command line of a server."""
    return [sys.executable, "-m", "coopserve", "serve", "--port", str(port), "--data-dir", str(data_dir)]


def environment(checkpoints: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server: nothing that the developer has set for their own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COOPSERVE_")}
    return {**inherited, **QUICK, "COOPSERVE_CHECKPOINTS_DIR": str(checkpoints), **extra}


@dataclass(frozen=True)
class Ending:
    """How a server ended: its exit status, and the command lines of processes that outlived it."""

    status: int
    left: list[str]


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    url: str
    data_dir: Path
    log: Path
    ready_seconds: float = 0.0

    def parts(self) -> list[psutil.Process]:
        """The processes below the one that was started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def part(self, name: str) -> psutil.Process:
        """The process that runs ``coopserve NAME``."""
        (found,) = [part for part in self.parts() if part.cmdline()[-2:] == ["coopserve", name]]
        return found

    def environment(self) -> dict[str, str]:
        """The environment of the worker, which tells among others the address of the database."""
        return self.part("worker").environ()

    def output(self) -> str:
        """What all its processes wrote."""
        return self.log.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        """Wait until jobs are taken."""
        begin = time.monotonic()
        while time.monotonic() - begin < READY_SECONDS and self.process.poll() is None:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/v2/health/ready", timeout=2.0).status_code == 200:
                    self.ready_seconds = time.monotonic() - begin
                    return
            time.sleep(0.05)
        raise AssertionError(f"the server was not ready within {READY_SECONDS:.0f} s; it wrote:\n{self.output()}")

    def end(self, number: signal.Signals) -> Ending:
        """Send a signal to the process that was started (to no other) and wait until nothing of it is left."""
        parts = self.parts()
        self.process.send_signal(number)
        status = self.process.wait(STOP_SECONDS)
        deadline = time.monotonic() + STOP_SECONDS
        while any(map(_alive, parts)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return Ending(status, [" ".join(part.cmdline()) for part in parts if _alive(part)])


def _alive(process: psutil.Process) -> bool:
    """Whether it runs; one that only waits to be reaped by the system's first process does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def running(checkpoints: Path, data_dir: Path, **extra: str) -> Iterator[Server]:
    """A server that is ready; whatever happens, none of its processes outlives the block.

    Args:
        checkpoints: the folder of the shipped models.
        data_dir: where its state goes.
        extra: further environment variables.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), data_dir.with_name(f"{data_dir.name}.log")
    with log.open("wb") as output:
        options: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(serve_command(port, data_dir), env=environment(checkpoints, extra), **options)
    server = Server(process, f"http://127.0.0.1:{port}", data_dir, log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        if process.poll() is None:
            for part in [*server.parts(), psutil.Process(process.pid)]:
                with suppress(psutil.NoSuchProcess):
                    part.kill()
        process.wait()
