"""Starts the two servers that are compared, each as it is run by its users, on a free port, and stops them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from benchmarks.client import WAIT_SECONDS
from benchmarks.workload import Subject
from service.settings import Settings
from workers.device import capacity, engine_threads

START_SECONDS = 120.0
STOP_SECONDS = 30.0


class ServerError(Exception):
    """A server did not start, with the end of what it wrote."""


@contextmanager
def coopserve(settings: Settings, subject: Subject) -> Iterator[str]:
    """``coopserve serve`` with all its parts that take jobs; gives its address.

    It has one model, as LitServe has. Its data directory is new.
    """
    with tempfile.TemporaryDirectory(prefix="coopserve-bench-") as folder:
        port, data, models = _free_port(), Path(folder) / "data", Path(folder) / "models"
        shutil.copytree(subject.folder, models / subject.folder.parent.name / subject.folder.name)
        options = ["--no-trainer", "--port", str(port), "--data-dir", str(data)]
        command = [sys.executable, "-m", "coopserve", "serve", *options]
        own = {"COOPSERVE_WAIT_MAX_SECONDS": str(WAIT_SECONDS), "COOPSERVE_CHECKPOINTS_DIR": str(models)}
        environment = {**_environment(settings), **own}
        with _process(command, environment, Path(folder) / "log", f"http://127.0.0.1:{port}", "/v2/health/ready") as at:
            yield at


@contextmanager
def litserve(settings: Settings, ref: str, *, tuned: bool) -> Iterator[str]:
    """LitServe with the same model and size of batch; gives its address.

    Args:
        settings: as for :func:`coopserve`.
        ref: name@version of the model.
        tuned: with coopserve's own kernels, and a process with as many threads for each batch that coopserve advances
            at a time; else as one starts it: one process, torch's own number of threads, and the networks as trained.
    """
    with tempfile.TemporaryDirectory(prefix="litserve-bench-") as folder:
        port = _free_port()
        options = ["--model", ref, "--port", str(port), "--batch", str(capacity(settings).rows)]
        environment = _environment(settings)
        if tuned:
            options += ["--workers", str(engine_threads(settings))]
        else:
            options += ["--as-trained"]
            environment |= {"COOPSERVE_TORCH_THREADS": str(len(os.sched_getaffinity(0)))}
        command = [sys.executable, "-m", "benchmarks.litserve_server", *options]
        address = f"http://127.0.0.1:{port}"
        with _process(command, environment, Path(folder) / "log", address, "/health") as at:
            yield at


def _environment(settings: Settings) -> dict[str, str]:
    """The settings on which the measurement depends, and no Redis, so that a database of its own starts."""
    shared = settings.model_dump(
        mode="json",
        include={"checkpoints_dir", "device", "engine_threads", "exact", "fast_networks", "max_rows", "torch_threads"},
        exclude_none=True,
    )
    named = {f"COOPSERVE_{name.upper()}": str(value) for name, value in shared.items()}
    return {**named, "COOPSERVE_LOG_LEVEL": "warning", "COOPSERVE_REDIS_URL": ""}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _process(command: list[str], environment: Mapping[str, str], log: Path, address: str, ready: str) -> Iterator[str]:
    root = Path(__file__).resolve().parent.parent
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=root,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, address + ready, log)
        yield address
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(timeout=2.0) as http:
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(httpx.HTTPError):
                if http.get(url).status_code == 200:
                    return
            time.sleep(0.1)
    raise ServerError(f"{url} did not answer; the server wrote:\n{log.read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, then make sure that no process of its session is left."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
