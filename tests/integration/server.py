"""``coopserve serve`` as the process that its users start, and what becomes of its processes when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.cluster import free_port

READY_SECONDS = 180.0
STOP_SECONDS = 30.0
QUICK = {
    "COOPSERVE_TORCH_THREADS": "1",
    "COOPSERVE_LEASE_SECONDS": "4",
    "COOPSERVE_HEARTBEAT_SECONDS": "0.2",
    "COOPSERVE_DEVICE": "cpu",
}
"""Settings of every server here: the dead are noticed soon, and cores are left to the other processes."""


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
    ended: list[psutil.Process] = field(default_factory=list)

    def parts(self) -> list[psutil.Process]:
        """The processes below the one that was started; none once that has ended."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

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
        deadline = time.monotonic() + READY_SECONDS
        with httpx.Client(base_url=self.url, timeout=2.0) as http:  # to make one takes longer than to ask
            while time.monotonic() < deadline and self.process.poll() is None:
                with suppress(httpx.HTTPError):
                    if http.get("/v2/health/ready").status_code == 200:
                        return
                time.sleep(0.1)
        raise AssertionError(f"the server was not ready within {READY_SECONDS:.0f} s; it wrote:\n{self.output()}")

    def end(self, number: signal.Signals) -> Ending:
        """Send a signal to the process that was started (to no other) and wait until nothing of it is left."""
        self.ended = self.parts()
        self.process.send_signal(number)
        status = self.process.wait(STOP_SECONDS)
        deadline = time.monotonic() + STOP_SECONDS
        while any(map(_alive, self.ended)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return Ending(status, [" ".join(part.cmdline()) for part in self.ended if _alive(part)])

    def kill(self) -> None:
        """Clean up after a test that failed half-way; a server that has ended as it should is not touched."""
        for part in [*self.parts(), *self.ended]:
            with suppress(psutil.NoSuchProcess):
                part.kill()
        self.process.kill()
        self.process.wait()


def _alive(process: psutil.Process) -> bool:
    """Whether it runs; one that only waits to be reaped by the system's first process does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def running(checkpoints: Path, data_dir: Path, *options: str, **extra: str) -> Iterator[Server]:
    """A server that is ready; whatever happens, none of its processes outlives the block.

    Args:
        checkpoints: the folder of the shipped models.
        data_dir: where its state goes.
        options: further words of the command line.
        extra: further environment variables.
    """
    port, log = free_port(), data_dir.with_name(f"{data_dir.name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*serve_command(port, data_dir), *options],
            env=environment(checkpoints, extra),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, f"http://127.0.0.1:{port}", data_dir, log)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()
