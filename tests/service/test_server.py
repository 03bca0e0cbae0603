"""The web server before there is a request, bodies, streams, and what proxies and pages of other sites may say."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
import redis

from service.access.keys import Keys, Scope
from service.contract.errors import ServiceError
from service.contract.jobs import JobRecord
from service.http.bodies import BodyBudget
from service.settings import Settings
from tests.service.serving import serving
from tests.service.submitting import SubmittingStore

HEAD = b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"
QUICK = {"head_seconds": 0.5, "body_seconds": 0.5, "max_streams": 2, "trusted_proxies": None}


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    """An API without keys that is quick to lose patience."""
    with serving(settings.model_copy(update=QUICK)) as url:
        yield url


@pytest.fixture(scope="module")
def closed(settings: Settings) -> Iterator[str]:
    """One that wants keys."""
    with serving(settings.model_copy(update={**QUICK, "auth": "on"})) as url:
        yield url


def connected(url: str) -> socket.socket:
    """A plain connection."""
    at = httpx.URL(url)
    return socket.create_connection((at.host, at.port), timeout=10)


# ---- heads and bodies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", HEAD])
def test_who_does_not_finish_a_head_is_cut_off(url: str, begun: bytes) -> None:
    with connected(url) as connection:
        connection.sendall(begun)
        begin = time.monotonic()
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            pass
        assert 0.3 < time.monotonic() - begin < 5


def test_a_head_that_drips_in_is_cut_off_as_well(url: str) -> None:
    def drip() -> None:
        for _ in range(60):
            connection.sendall(b"G")
            time.sleep(0.05)

    with connected(url) as connection, pytest.raises(ConnectionError):
        drip()


def test_an_idle_connection_is_kept(url: str) -> None:
    with connected(url) as connection:
        for _ in range(2):
            connection.sendall(HEAD + b"\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(0.8)


def test_a_huge_head_is_refused(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(HEAD + b"X: " + b"a" * 70_000)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400")


def test_half_open_requests_shut_nobody_out(redis_url: str, client: redis.Redis, settings: Settings) -> None:
    """With 128 descriptors in all, so that 300 connections that say nothing would take every one."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = {"REDIS_URL": redis_url, "PORT": str(port), "DATA_DIR": str(settings.data_dir), "HEAD_SECONDS": "600"}
    environment = {**os.environ, **{f"COOPSERVE_{name}": value for name, value in given.items()}}
    api = subprocess.Popen([sys.executable, "-m", "coopserve", "api"], env=environment, preexec_fn=few)
    url = f"http://127.0.0.1:{port}"
    try:
        with ExitStack() as stack:
            _await(url)
            for _ in range(300):
                stack.enter_context(connected(url)).sendall(HEAD)
            for _ in range(100):  # as idle as a browser's
                connection = stack.enter_context(connected(url))
                connection.sendall(HEAD + b"\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            for _ in range(5):
                assert httpx.get(f"{url}/v2/health/live", timeout=5).status_code == 200
    finally:
        api.terminate()
        assert api.wait(20) in (0, -15)


def _await(url: str) -> None:
    deadline = time.monotonic() + 60
    with httpx.Client(base_url=url, timeout=1) as http:
        while time.monotonic() < deadline:
            try:
                http.get("/v2/health/live")
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return
    raise AssertionError("the API did not start")


def test_a_body_that_drips_in_is_refused(url: str) -> None:
    def drip() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 2000
            time.sleep(0.05)

    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{url}/v1/generate", content=drip(), headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (408, "/errors/request-timeout")


def parts(chunks: int, seconds: float, size: int) -> Iterator[bytes]:
    """A file in a form, so many chunks with a pause before each."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.zip"\r\n\r\n'
    for _ in range(chunks):
        time.sleep(seconds)
        yield bytes(size)
    yield b"\r\n--b--\r\n"


@pytest.mark.parametrize(("size", "status"), [(2**18, 422), (100, 408)])
def test_a_data_set_may_take_its_time_as_long_as_it_comes(url: str, size: int, status: int) -> None:
    """Twice as long as other bodies may take: at half a megabyte in the time of another body, or at next to nothing."""
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = httpx.post(f"{url}/v1/datasets", content=parts(10, 0.1, size), headers=headers)
    assert answer.status_code == status, answer.text


def test_data_sets_take_nothing_of_the_memory_for_bodies(settings: Settings, client: redis.Redis) -> None:
    """While another body holds all of it."""
    tight = settings.model_copy(update={"max_bodies_bytes": 2**20})
    image = parts(1, 0.0, 2**19)
    headers = {"Content-Type": "multipart/form-data; boundary=b"}

    async def run(url: str) -> tuple[int, bool]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as api:
            slow = asyncio.create_task(api.post("/v1/images", content=_chunks(image, 10.0), headers=headers))
            await asyncio.sleep(0.5)
            answer = await api.post("/v1/datasets", content=_chunks(parts(1, 0.0, 2**19)), headers=headers)
            waiting = not slow.done()
            slow.cancel()
            return answer.status_code, waiting

    with serving(tight) as url:
        assert asyncio.run(run(url)) == (422, True)  # it is no archive, but was read


async def _chunks(chunks: Iterator[bytes], seconds: float = 0.0) -> AsyncIterator[bytes]:
    """The same with a pause after each."""
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(seconds)


def test_large_bodies_take_turns_and_no_caller_takes_all() -> None:
    entered: list[str] = []

    async def body(budget: BodyBudget, name: str, size: int, done: asyncio.Event) -> None:
        async with budget.hold(name, size):
            entered.append(f"{name} {size}")
            await done.wait()

    async def run() -> None:
        budget = BodyBudget(100, wait_seconds=0.2)
        done = [asyncio.Event() for _ in range(5)]
        sizes = [("ann", 40), ("ann", 20), ("bob", 50), ("eve", 20), ("huge", 1000)]
        tasks = [asyncio.create_task(body(budget, *each, end)) for each, end in zip(sizes, done, strict=True)]
        await asyncio.sleep(0.05)
        assert entered == ["ann 40", "bob 50"]  # ann has half, and eve would make it 110
        done[2].set()
        await asyncio.sleep(0.05)
        assert entered[2:] == ["eve 20"]
        ends = await asyncio.gather(*(tasks[k] for k in (1, 4)), return_exceptions=True)
        assert [error.kind for error in ends if isinstance(error, ServiceError)] == ["unavailable"] * 2
        for end in done:
            end.set()
        await asyncio.gather(*(tasks[k] for k in (0, 2, 3)))
        async with budget.hold("huge", 1000):  # what is larger than all there is goes alone
            entered.append("huge")

    asyncio.run(run())
    assert entered[-1] == "huge"


def test_bodies_wait_until_there_is_room(settings: Settings, client: redis.Redis) -> None:
    """Eight at a time where one fits: all are answered."""
    tight = settings.model_copy(update={"max_bodies_bytes": 2**20})
    body = json.dumps({"model": "toy-classes", "image": "data:image/png;base64," + "A" * 700_000}).encode()
    headers = {"Content-Type": "application/json"}

    async def run(url: str) -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as api:
            posts = (api.post("/v1/reconstruct", content=body, headers=headers) for _ in range(8))
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    with serving(tight) as url:
        assert asyncio.run(run(url)) == [422] * 8


# ---- streams -----------------------------------------------------------------------------------------------------


def test_a_caller_holds_so_many_streams(
    url: str, client: redis.Redis, jobs: SubmittingStore[JobRecord], new_job: Callable[[], JobRecord]
) -> None:
    events = f"{url}/v1/jobs/{jobs.submit(new_job())[0].id}/events"
    lines: list[Iterator[str]] = []
    with ExitStack() as stack:
        for _ in range(2):
            lines.append(stack.enter_context(httpx.stream("GET", events)).iter_lines())
            assert next(lines[-1]).startswith("id:")
        refused = httpx.get(events)
        assert (refused.status_code, refused.json()["type"]) == (429, "/errors/too-many-streams")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # the server hears of closed connections in a moment
        with httpx.stream("GET", events) as answer:
            if answer.status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError("the streams that were closed still count")


def test_the_streams_of_a_revoked_key_end(
    closed: str, client: redis.Redis, jobs: SubmittingStore[JobRecord], new_job: Callable[[], JobRecord]
) -> None:
    keys = Keys(client)
    made = keys.add("ann", frozenset({Scope.USE}))
    job = jobs.submit(new_job(), owner="ann")[0]
    claimed = jobs.claim(job.id, "w", 60)
    assert claimed is not None
    headers = {"Authorization": f"Bearer {made.token}"}
    with httpx.stream("GET", f"{closed}/v1/jobs/{job.id}/events", headers=headers, timeout=20) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("id:")
        keys.revoke(made.key.id)
        time.sleep(5.1)  # a process remembers a key for 5 s
        jobs.emit(job.id, claimed.attempt, "preview", {"step": 12345})
        assert "12345" not in "".join(lines)  # and there is an end of it
    assert jobs.get(job.id).status == "running"


# ---- proxies and other sites -------------------------------------------------------------------------------------


def test_metrics_are_for_this_machine_alone(closed: str, client: redis.Redis) -> None:
    assert httpx.get(f"{closed}/metrics").status_code == 200
    for header in ("X-Forwarded-For", "Forwarded"):
        assert httpx.get(f"{closed}/metrics", headers={header: "for=203.0.113.9"}).status_code == 401


@pytest.mark.parametrize(("trusted", "remaining"), [(None, [1, 0]), ("127.0.0.0/8", [1, 1])])
def test_only_trusted_proxies_tell_the_clients_address(
    settings: Settings, client: redis.Redis, trusted: str | None, remaining: list[int]
) -> None:
    with serving(settings.model_copy(update={"rate_limit": "2/minute", "trusted_proxies": trusted})) as url:
        answers = [httpx.get(f"{url}/v1/models", headers={"X-Forwarded-For": f"203.0.113.{k}"}) for k in range(2)]
    assert [int(answer.headers["RateLimit"].split(";")[1].removeprefix("r=")) for answer in answers] == remaining


def test_redirections_stay_at_the_proxy(url: str) -> None:
    for headers in ({}, {"Host": "localhost:1", "X-Forwarded-Proto": "https"}):
        answer = httpx.get(f"{url}/v1/jobs/?limit=3", headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (307, "/v1/jobs?limit=3")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.1.2.3:8000", "[::2]", "[", ""])
def test_a_name_of_another_site_is_not_answered(url: str, client: redis.Redis, host: str) -> None:
    answer = httpx.get(f"{url}/v1/jobs", headers={"Host": host})
    assert (answer.status_code, answer.json()["type"]) == (403, "/errors/foreign-site")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "127.8.8.8", "[::1]:80"])
def test_every_name_of_this_machine_is(url: str, client: redis.Redis, host: str) -> None:
    assert httpx.get(f"{url}/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://"])
def test_pages_of_other_sites_change_nothing(url: str, client: redis.Redis, origin: str) -> None:
    headers = {"Origin": origin}
    answer = httpx.post(f"{url}/v1/jobs/job_0/cancel", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (403, "/errors/foreign-site")
    assert httpx.get(f"{url}/v1/jobs", headers=headers).status_code == 200  # which the page can't read
    assert httpx.post(f"{url}/v1/jobs/job_0/cancel", headers={"Origin": "http://localhost:3000"}).status_code == 404


def test_hosts_and_origins_can_be_allowed(settings: Settings, client: redis.Redis) -> None:
    own = {"allowed_hosts": "Coopserve.lan, other", "cors_origins": "https://app.example.org"}
    with serving(settings.model_copy(update=own)) as url:
        assert httpx.get(f"{url}/v1/jobs", headers={"Host": "coopserve.lan:80"}).status_code == 200
        assert httpx.get(f"{url}/v1/jobs", headers={"Host": "evil.lan"}).status_code == 403
        for origin in ("https://app.example.org", "http://other"):
            assert httpx.post(f"{url}/v1/jobs/job_0/cancel", headers={"Origin": origin}).status_code == 404


def test_where_keys_are_asked_for_every_name_will_do(closed: str, client: redis.Redis) -> None:
    token = Keys(client).add("ann", frozenset({Scope.USE})).token
    headers = {"Host": "api.example.org", "Origin": "https://app.example.org", "Authorization": f"Bearer {token}"}
    assert httpx.get(f"{closed}/v1/jobs", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trusted_proxies", "10.0.0.0/33"),
        ("trusted_proxies", "proxy.lan"),
        ("allowed_hosts", "http://a.lan"),
        ("cors_origins", "app.example.org"),
        ("cors_origins", "https://a.example/path"),
        ("cors_origins", "*"),  # without keys
    ],
)
def test_settings_that_would_not_do_what_they_say_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize("host", [".", "a..b", "..", ".a", f"{'a' * 64}.org"])
def test_webhooks_to_names_that_can_not_be_are_refused(url: str, client: redis.Redis, host: str) -> None:
    body = {"model": "toy", "webhook": f"https://{host}/"}
    answer = httpx.post(f"{url}/v1/generate", json=body)
    assert (answer.status_code, answer.json()["type"]) == (422, "/errors/invalid-request")
    assert answer.json()["errors"][0]["loc"] == ["body", "webhook"]
