"""What the others notice when one client takes all that it can get: webhooks, half-open requests, bodies, rows.

    python -m benchmarks.siege

Each figure is what a second owner waits while the first one besieges the API, beside what the same takes alone.
"""

from __future__ import annotations

import base64
import json
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import httpx
import psutil

from benchmarks.cluster import Cluster, Process, free_port, wait_for
from service.access.keys import Keys, Scope

HOOKS, OTHERS = 200, 20
HALF_OPEN, DESCRIPTORS = 300, 256
BODIES, BODY_BYTES = 40, 27 * 2**20
LARGE_JOBS = 10


@click.command()
def main() -> None:
    """Besiege an API of this machine."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        hook, hole = free_port(), stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ports = f"{hook},{hole.getsockname()[1]}"
        cluster = Cluster(
            Path(folder),
            {"auth": "on", "webhook_allow_http": True, "webhook_allow_private": True, "webhook_ports": ports},
        )
        stack.callback(cluster.close)
        cluster.start_database()
        api = cluster.start("api")
        psutil.Process(api.pid).rlimit(psutil.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))  # before it looks at it
        wait_for(lambda: _live(cluster), "the API")
        keys = Keys(cluster.client)
        ann, bob = (keys.add(owner, frozenset({Scope.USE})).token for owner in ("ann", "bob"))
        _webhooks(cluster, ann, bob, hook, hole.getsockname()[1])
        _half_open(cluster)
        _bodies(cluster, api, ann, bob)
        cluster.start("worker", device="cpu")
        wait_for(lambda: cluster.http.get("/v2/health/ready").status_code == 200, "a worker")
        _rows(cluster, ann, bob)


def _webhooks(cluster: Cluster, ann: str, bob: str, hook: int, hole: int) -> None:
    came: list[float] = []
    with _receiver(hook, lambda: came.append(time.monotonic())):
        for begun, port, token, count in ((False, hole, ann, HOOKS), (True, hook, bob, OTHERS)):
            begin = time.monotonic() if begun else 0.0
            for _ in range(count):
                body = {"model": "fashion-ccoopnets", "webhook": f"http://127.0.0.1:{port}/"}
                job = cluster.http.post("/v1/generate", json=body, headers=_bearer(token)).raise_for_status().json()
                cluster.http.post(f"{job['links']['cancel']}", headers=_bearer(token)).raise_for_status()
        wait_for(lambda: len(came) == OTHERS, "the webhooks of the second owner")
    click.echo(f"webhooks: with {HOOKS} to a black hole, {OTHERS} of another owner took {came[-1] - begin:.1f} s")


def _half_open(cluster: Cluster) -> None:
    alone = _answer_times(cluster)
    with ExitStack() as stack:
        for _ in range(HALF_OPEN):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", cluster.api_port)))
            with suppress(OSError):
                connection.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n")
        beside = _answer_times(cluster)
    click.echo(
        f"half-open: beside {HALF_OPEN} of them and with {DESCRIPTORS} descriptors a new connection is answered in "
        f"{max(beside) * 1000:.0f} ms at most (median {statistics.median(beside) * 1000:.1f}), alone in "
        f"{max(alone) * 1000:.0f} ms ({statistics.median(alone) * 1000:.1f})"
    )


def _bodies(cluster: Cluster, api: Process, ann: str, bob: str) -> None:
    noise = base64.b64encode(random.Random(7).randbytes(BODY_BYTES * 3 // 8)).decode()
    uri = f"data:image/png;base64,{noise}"
    body = json.dumps({"model": "noto-ccoopnets", "image": uri, "mask": uri}).encode()
    process, peak, done = psutil.Process(api.pid), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()

    def send(token: str) -> int:
        headers = {**_bearer(token), "Content-Type": "application/json"}
        return httpx.post(f"{_at(cluster)}/v1/inpaint", content=body, headers=headers, timeout=300).status_code

    begin = time.monotonic()
    with ThreadPoolExecutor(BODIES) as pool:
        statuses = list(pool.map(send, [ann, bob] * (BODIES // 2)))
    done.set()
    watcher.join()
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    click.echo(
        f"bodies: {BODIES} of {len(body) / 2**20:.0f} MiB at a time took the API from {before / 2**20:.0f} to "
        f"{peak[0] / 2**20:.0f} MiB and {time.monotonic() - begin:.1f} s; answers by status: {counts}"
    )


def _rows(cluster: Cluster, ann: str, bob: str) -> None:
    def job(token: str, n: int, wait: bool) -> dict[str, Any]:
        headers = {**_bearer(token), **({"Prefer": "wait=60"} if wait else {})}
        body = {"model": "fashion-ccoopnets", "image": "sample-shirt", "n": n}
        answer = cluster.http.post("/v1/reconstruct", json=body, headers=headers, timeout=90).raise_for_status()
        return dict(answer.json())

    def seconds() -> float:
        begin = time.monotonic()
        job(bob, 1, wait=True)
        return time.monotonic() - begin

    seconds()  # the model is loaded
    alone = seconds()
    large = [job(ann, 6, wait=False)["id"] for _ in range(LARGE_JOBS)]
    time.sleep(0.5)
    beside = seconds()
    left = sum(not cluster.jobs.get(id).status.terminal for id in large)
    click.echo(
        f"rows: a job of 10 rows took {beside:.1f} s beside {LARGE_JOBS} jobs of 60 rows of another owner, of which "
        f"{left} were not done then; alone {alone:.1f} s"
    )


def _answer_times(cluster: Cluster) -> list[float]:
    def one() -> float:
        begin = time.monotonic()
        httpx.get(f"{_at(cluster)}/v2/health/live", timeout=30).raise_for_status()
        return time.monotonic() - begin

    return [one() for _ in range(20)]


def _at(cluster: Cluster) -> str:
    return f"http://127.0.0.1:{cluster.api_port}"


def _live(cluster: Cluster) -> bool:
    with suppress(httpx.HTTPError):
        return cluster.http.get("/v2/health/live").status_code == 200
    return False


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def _receiver(port: int, came: Callable[[], None]) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            came()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    main()
